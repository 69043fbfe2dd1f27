// What a client tells the user.
#ifndef CAPIO_CLIENT_SAY_H_
#define CAPIO_CLIENT_SAY_H_

#include <string_view>

namespace capio {

// One line on stderr: "pycapio: <text>".
void Say(std::string_view text);

}  // namespace capio

#endif  // CAPIO_CLIENT_SAY_H_
