#include "wire/message.h"

#include <string.h>

#include <algorithm>

namespace capio {
namespace {

constexpr uint32_t kMagic = 0x4f504143;  // "CAPO"
constexpr uint16_t kVersion = 1;

struct Frame {
  uint32_t magic;
  uint16_t version;
  uint16_t type;
  uint32_t slot;
  uint32_t epoch;
  uint64_t argument;
  uint32_t text_size;
  uint32_t reserved;
};
static_assert(sizeof(Frame) == 32);

}  // namespace

std::string EncodeMessage(const Message& message) {
  size_t size = std::min(message.text.size(), kMaxText);
  Frame frame = {kMagic,        kVersion,         static_cast<uint16_t>(message.type), message.slot,
                 message.epoch, message.argument, static_cast<uint32_t>(size),         0};
  std::string out(reinterpret_cast<const char*>(&frame), sizeof frame);
  out.append(message.text, 0, size);
  return out;
}

Result<Message> DecodeMessage(std::span<const std::byte> frame) {
  Frame head = {};
  if (frame.size() < sizeof head) return Status::Error(EPROTO);
  memcpy(&head, frame.data(), sizeof head);
  if (head.magic != kMagic || head.version != kVersion || head.text_size > kMaxText ||
      frame.size() != sizeof head + head.text_size ||
      head.type < static_cast<uint16_t>(MessageType::kHello) ||
      head.type > static_cast<uint16_t>(MessageType::kRoom)) {
    return Status::Error(EPROTO);
  }
  Message message;
  message.type = static_cast<MessageType>(head.type);
  message.slot = head.slot;
  message.epoch = head.epoch;
  message.argument = head.argument;
  message.text.assign(reinterpret_cast<const char*>(frame.data()) + sizeof head, head.text_size);
  return message;
}

}  // namespace capio
