// M3, the no-writers probe: asks the kernel whether anybody, anywhere, can still write a file; and
// the lease that keeps it so for a while.
#ifndef CAPIO_STORE_PROBE_H_
#define CAPIO_STORE_PROBE_H_

namespace capio {

enum class Writers { kNone, kSome, kUnknown };

// fd: any descriptor of the file, opened for reading only.
Writers ProbeWriters(int fd);
// The same for a file by name, below dir. kUnknown if it cannot be opened.
Writers ProbeWritersAt(int dir, const char* path);

// Keeps others from opening a file: their open(2) waits until the lease is given back, which has to
// be soon. A process that is killed gives back what it holds.
class Lease {
 public:
  enum Kind { kAgainstWriters, kAgainstAll };

  // fd: the only descriptor of the file in this process, opened for reading only; the caller's.
  explicit Lease(int fd) : fd_(fd) {}
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // Has this kind from now on, in place of the other one. False if somebody has the file open (to
  // write it), or if there are no leases: then what was held is held still.
  bool Take(Kind kind);
  // Nobody has tried to open it since.
  [[nodiscard]] bool Held() const;

 private:
  int fd_;
  int type_ = -1;  // F_RDLCK or F_WRLCK while it is held
};

}  // namespace capio

#endif  // CAPIO_STORE_PROBE_H_
