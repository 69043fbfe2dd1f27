// Links that steps put into CAPIO_DIR for child programs which open files there themselves.
//
// Their journal, CAPIO_DIR/.capio/<workflow>/links, is written before they are made: a row of
// NUL-terminated entries, 'f' and the relative path of a link, 'p' and that of a file whose place
// in the store a program was told, or 'd' and that of a directory made for links. A step takes its
// links away itself; this is for what is left when one was killed.
#ifndef CAPIO_SERVER_LINKS_H_
#define CAPIO_SERVER_LINKS_H_

#include <string>

#include "os/os.h"

namespace capio {

// Removes what the journal lists, as far as it still is a link into a store of this workflow or an
// empty directory, and then the journal. To be called when no step of the workflow is running.
void RemoveLeftLinks(int real_dir, const std::string& workflow);

// A program may be using the file of this name where it lies in the store. False only if none is
// told of it before it has looked whether the file is being moved.
bool IsLinked(int real_dir, const std::string& workflow, const std::string& name);

}  // namespace capio

#endif  // CAPIO_SERVER_LINKS_H_
