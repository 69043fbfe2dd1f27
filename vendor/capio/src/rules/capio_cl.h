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

// The same for many, one a line.
std::string FormatDiagnostics(const std::vector<ClDiagnostic>& diagnostics,
                              std::string_view file_name);

// What the names in a file are taken from.
struct ClPlace {
  std::string_view capio_dir;       // absolute
  std::string_view resolve_prefix;  // relative entries; "" is CAPIO_DIR, a relative one is below it
  std::string_view other_name;      // CAPIO_DIR by another absolute name (symbolic links), or ""
};

// Reads text and finds everything that is wrong with it at once.
//  - Neither CAPIO_DIR nor the resolve prefix is treated as a pattern, and no file is looked at.
//  - An absolute entry outside CAPIO_DIR is left out with a warning (Workflow::warnings). A
//    relative one that leaves it through ".." is an error.
//  - A directory with n_files and neither on_termination nor on_file is committed when it holds
//    that many entries, as with on_n_files. on_close without n_files means on_termination for a
//    directory, with a warning: nobody ever closes a directory.
// Fails with EINVAL; the Status then has one line per error, in the order of the file.
Result<Workflow> ParseCapioCl(std::string_view text, std::string_view file_name,
                              const ClPlace& place);

// The same with the errors as data: *errors is empty exactly if the workflow is valid. Warnings are
// in the workflow, with file_name. *configuration_line is where Workflow::configuration is given.
// Fails itself only with EINVAL for a relative capio_dir and ENOMEM.
Result<Workflow> ReadCapioCl(std::string_view text, std::string_view file_name,
                             const ClPlace& place, std::vector<ClDiagnostic>* errors,
                             int* configuration_line = nullptr);

// Rules given one by one by a program: a JSON list of objects with the keys path (required),
// committed, fire, close_count, directory_n_file_expected, is_directory, is_permanent, is_excluded,
// producers, consumers and file_dependencies. null and, for numbers, 0 mean "not given"; committed
// and fire take the spellings of the language. A rule without commit, fire and is_directory leaves
// those of its path as they are. Cycles and ties are not looked for: they concern all rules of a
// workflow, see MergeRules. EINVAL as above.
Result<Workflow> ParseRules(std::string_view json, const ClPlace& place);

}  // namespace capio

#endif  // CAPIO_RULES_CAPIO_CL_H_
