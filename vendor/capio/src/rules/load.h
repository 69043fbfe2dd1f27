// A CAPIO-CL file and what it refers to, read from disk.
#ifndef CAPIO_RULES_LOAD_H_
#define CAPIO_RULES_LOAD_H_

#include <string>
#include <vector>

#include "os/status.h"
#include "rules/capio_cl.h"
#include "rules/rule.h"

namespace capio {

struct LoadedCapioCl {
  std::string text;  // of the file
  Workflow workflow;
  std::vector<ClDiagnostic> errors;  // empty exactly if the workflow is valid
};

// The file is named `path` in messages. The settings of its "configuration" (a TOML file, beside it
// unless absolute) that have no effect here are among the warnings; so is one that cannot be read.
// Fails with the errno of reading the file itself, EINVAL for a relative CAPIO_DIR, and ENOMEM.
Result<LoadedCapioCl> LoadCapioCl(const std::string& path, const ClPlace& place);

// The whole file, or an errno with a sentence that calls it `what`.
Result<std::string> ReadTextFile(const std::string& path, const std::string& what);

}  // namespace capio

#endif  // CAPIO_RULES_LOAD_H_
