// Lexical work on path names: no system call but getcwd.
#ifndef CAPIO_OS_PATHS_H_
#define CAPIO_OS_PATHS_H_

#include <string>
#include <string_view>

#include "os/status.h"

namespace capio {

// The absolute form of path without ".", ".." and doubled slashes, taken from the current directory
// if relative. Symbolic links are not looked at.
Result<std::string> AbsolutePath(std::string_view path);
std::string NormalizePath(std::string_view absolute);
// Whether a path is its own absolute form.
bool IsNormal(std::string_view path);
// Whether a relative path is one without ".", ".." and slashes that say nothing.
bool IsNormalBelow(std::string_view relative);

// What a path says of its last component besides the name: "d/" and "d/." can only be directories.
// Normalising drops it, so it has to be asked of the path as it was given.
enum class Ending { kName, kSlash, kDot };
Ending EndingOf(std::string_view path);

// If path is root or lies below it, by component, sets *relative to the rest ("" for root itself).
bool PathBelow(std::string_view path, std::string_view root, std::string* relative);

// "a/b/c" -> "a/b", "c" -> "".
std::string_view ParentOf(std::string_view relative);
// "a/b", "c" -> "a/b/c"; "", "c" -> "c".
std::string Below(std::string_view directory, std::string_view name);

// A file name that holds any string: bytes outside [A-Za-z0-9_-] and a leading '.' are written %XX;
// more than 128 bytes become a prefix and a hash, so that the name and what is put beside it fit in
// NAME_MAX.
std::string EncodeName(std::string_view name);

uint64_t HashString(std::string_view text);

}  // namespace capio

#endif  // CAPIO_OS_PATHS_H_
