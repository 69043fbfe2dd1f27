// The TOML file that a CAPIO-CL file of version 1.1 may name. pycapio has no setting that is read
// from there, so all that is needed is which settings it gives, and where.
#ifndef CAPIO_RULES_CONFIGURATION_H_
#define CAPIO_RULES_CONFIGURATION_H_

#include <string>
#include <string_view>
#include <vector>

namespace capio {

struct TomlLine {
  int line = 0;         // from 1
  std::string setting;  // with the tables it is in: "monitor.mcast.port"; "" if that is no TOML
};

// Every setting given in a TOML text, in order. Values are skipped, not judged. A line that is no
// TOML has an entry, too.
std::vector<TomlLine> TomlSettings(std::string_view text);

}  // namespace capio

#endif  // CAPIO_RULES_CONFIGURATION_H_
