// What clients and the server say to each other on STORE/server.sock (SOCK_SEQPACKET: one frame,
// one message). Only notices: nothing on the data path waits for an answer, and a lost notice costs
// latency, not truth.
#ifndef CAPIO_WIRE_MESSAGE_H_
#define CAPIO_WIRE_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "os/status.h"

namespace capio {

enum class MessageType : uint16_t {
  kHello = 1,     // client: I hold slot `slot` in incarnation `epoch`
  kFile = 2,      // client: look at the record at `argument` (committed, closing, failed)
  kBye = 3,       // client: I have ended; argument: ByeWishes
  kWorking = 4,   // server: heard your bye; argument: files still to write back
  kDone = 5,      // server: all of yours is safe
  kNote = 6,      // server: text for the user
  kStop = 7,      // client: stop, after persistence
  kChildEnd = 8,  // client: I am ending the client with pid `argument`: that is no death
  kRoom = 9,      // client: memory is short; the header says how much is wanted
};

enum ByeWishes : uint64_t {
  kTellWhenSafe = 1,  // what I made
  kTellSummary = 2,   // if the run ends with me
};

struct Message {
  MessageType type = MessageType::kHello;
  uint32_t slot = 0;
  uint32_t epoch = 0;
  uint64_t argument = 0;
  std::string text;  // at most kMaxText bytes; longer is cut
};

constexpr size_t kMaxText = 4000;
constexpr size_t kMaxFrame = 32 + kMaxText;

// Layout: magic u32, version u16, type u16, slot u32, epoch u32, argument u64, text length u32,
// reserved u32, text; in the byte order of the machine, which both ends share.
std::string EncodeMessage(const Message& message);
// EPROTO on anything that EncodeMessage cannot have made.
Result<Message> DecodeMessage(std::span<const std::byte> frame);

}  // namespace capio

#endif  // CAPIO_WIRE_MESSAGE_H_
