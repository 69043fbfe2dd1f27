// Status and Result<T>: how every internal call reports failure. Success allocates nothing.
#ifndef CAPIO_OS_STATUS_H_
#define CAPIO_OS_STATUS_H_

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace capio {

// An errno and, where the errno does not say it all, a sentence for the user.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  Status(const Status& other)
      : code_(other.code_),
        text_(other.text_ ? std::make_unique<std::string>(*other.text_) : nullptr) {}
  Status& operator=(const Status& other) {
    Status copy(other);
    return *this = std::move(copy);
  }

  static Status Ok() { return Status(); }
  // code is a positive errno, or a negative library code (CAPIO_UNMANAGED).
  static Status Error(int code) { return Status(code, nullptr); }
  static Status Error(int code, std::string text) {
    return Status(code, std::make_unique<std::string>(std::move(text)));
  }

  [[nodiscard]] bool ok() const { return code_ == 0; }
  [[nodiscard]] int code() const { return code_; }
  // The sentence, or "" if the errno says it all.
  [[nodiscard]] const char* text() const { return text_ ? text_->c_str() : ""; }

 private:
  Status(int code, std::unique_ptr<std::string> text) : code_(code), text_(std::move(text)) {}

  int code_ = 0;
  std::unique_ptr<std::string> text_;
};

// A value or a Status that is not ok.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit by intent
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: implicit by intent

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] int code() const { return status_.code(); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

#define CAPIO_RETURN_IF_ERROR(expr)                       \
  do {                                                    \
    if (::capio::Status s_ = (expr); !s_.ok()) return s_; \
  } while (0)

}  // namespace capio

#endif  // CAPIO_OS_STATUS_H_
