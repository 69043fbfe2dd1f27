// Which machine this is, and since when.
#ifndef CAPIO_OS_HOST_H_
#define CAPIO_OS_HOST_H_

#include <string>

namespace capio {

std::string HostName();
// Of the running kernel: differs between machines and after every start; "" where /proc is missing.
std::string BootId();
// On which this process may run; at least 1.
int Processors();

}  // namespace capio

#endif  // CAPIO_OS_HOST_H_
