// The text of a CAPIO-CL file, section by section.
#ifndef CAPIO_RULES_CL_FILE_H_
#define CAPIO_RULES_CL_FILE_H_

#include <string_view>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/json_tree.h"

namespace capio {

// See ReadCapioCl; the document is without syntax errors.
Workflow ReadClFile(const Document& document, std::string_view file_name, const ClPlace& place,
                    std::vector<ClDiagnostic>* errors, int* configuration_line);

}  // namespace capio

#endif  // CAPIO_RULES_CL_FILE_H_
