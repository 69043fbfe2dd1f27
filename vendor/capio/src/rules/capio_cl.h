// Reads a CAPIO-CL file, versions 1 and 1.1.
#ifndef CAPIO_RULES_CAPIO_CL_H_
#define CAPIO_RULES_CAPIO_CL_H_

#include <string>
#include <string_view>
#include <vector>

#include "os/status.h"
#include "rules/rule.h"

namespace capio {

// One thing that is wrong, or worth a warning, and where.
struct ClDiagnostic {
  int line = 0;         // from 1
  int column = 0;       // of a syntax error, in characters from 1; else 0
  std::string pointer;  // RFC 6901, "" for the whole file; not for syntax errors
  std::string message;  // what was found; what is allowed (did you mean "...")
};

// The diagnostic as one line of text, without a newline:
//   <file_name>: line 7, /IO_Graph/0/streaming/1/mode: "noupdate" is no mode; write "update" ...
std::string FormatDiagnostic(const ClDiagnostic& diagnostic, std::string_view file_name);

// Reads text and finds everything that is wrong with it at once.
//  - capio_dir is CAPIO_DIR, absolute. Relative entries are taken from resolve_prefix, or from
//  CAPIO_DIR if that is
//    ""; a relative prefix is taken from CAPIO_DIR. Neither is treated as a pattern, and no file is
//    looked at.
//  - An absolute entry outside CAPIO_DIR is left out with a warning (Workflow::warnings). A
//  relative one that leaves
//    it through ".." is an error.
//  - A directory with n_files and neither on_termination nor on_file is committed when it holds
//  that many entries,
//    as with on_n_files. on_close without n_files means on_termination for a directory, with a
//    warning: nobody ever closes a directory.
// Fails with EINVAL; the Status then has one line per error, in the order of the file.
Result<Workflow> ParseCapioCl(std::string_view text, std::string_view file_name,
                              std::string_view capio_dir, std::string_view resolve_prefix);

// The same with the errors as data: *errors is empty exactly if the workflow is valid. Warnings are
// in the workflow, with file_name. Fails itself only with EINVAL for a relative capio_dir and
// ENOMEM.
Result<Workflow> ReadCapioCl(std::string_view text, std::string_view file_name,
                             std::string_view capio_dir, std::string_view resolve_prefix,
                             std::vector<ClDiagnostic>* errors);

}  // namespace capio

#endif  // CAPIO_RULES_CAPIO_CL_H_
