// What a CAPIO-CL file says, as data for the tools that show it.
#ifndef CAPIO_RULES_REPORT_H_
#define CAPIO_RULES_REPORT_H_

#include <string>

#include "rules/load.h"

namespace capio {

// A JSON object, described at capio_cl_check in capio.h.
std::string ReportAsJson(const LoadedCapioCl& loaded, const std::string& file_name);

}  // namespace capio

#endif  // CAPIO_RULES_REPORT_H_
