// M3, the no-writers probe: asks the kernel whether anybody, anywhere, can still write a file.
#ifndef CAPIO_STORE_PROBE_H_
#define CAPIO_STORE_PROBE_H_

namespace capio {

enum class Writers { kNone, kSome, kUnknown };

// fd: any descriptor of the file, opened for reading only.
Writers ProbeWriters(int fd);
// The same for a file by name, below dir. kUnknown if it cannot be opened.
Writers ProbeWritersAt(int dir, const char* path);

}  // namespace capio

#endif  // CAPIO_STORE_PROBE_H_
