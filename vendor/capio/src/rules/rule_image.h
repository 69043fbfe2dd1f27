// The rules as bytes: the server writes them once into shared memory, every client reads them
// there.
#ifndef CAPIO_RULES_RULE_IMAGE_H_
#define CAPIO_RULES_RULE_IMAGE_H_

#include <cstddef>
#include <span>
#include <string>

#include "os/status.h"
#include "rules/rule.h"

namespace capio {

// Layout, little-endian, no padding, no addresses:
//   u32 magic "CCLR"   u16 format version (1)   u16 zero
//   u64 size of the whole image   u64 FNV-1a (64 bits) of all bytes behind this field
//   string name   u64 version (IEEE 754)   string configuration   list of string warnings   list of
//   string apps list of entries: string pattern   u8 flags   [streaming]   list of u16 producers
//   list of u16 consumers
//     string home
//   flags: 1 is_glob, 2 is_directory, 4 permanent, 8 excluded, 16 has storage, 32 storage is fs, 64
//   has streaming streaming: u8 commit   u8 fire   u32 close_count   u32 n_files   list of string
//   dependencies string: u32 length, bytes      list: u32 count, elements
std::string SerialiseRules(const Workflow& workflow);

// Bytes behind the size the image states are ignored, so the span may be the whole mapping. EPROTO
// for anything SerialiseRules cannot have written. Nothing in the result refers to the image, which
// another process may be overwriting meanwhile.
Result<Workflow> ParseRuleImage(std::span<const std::byte> image);

}  // namespace capio

#endif  // CAPIO_RULES_RULE_IMAGE_H_
