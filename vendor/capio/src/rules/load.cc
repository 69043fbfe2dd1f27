#include "rules/load.h"

#include <fcntl.h>
#include <string.h>

#include "os/os.h"
#include "rules/configuration.h"
#include "rules/text.h"

namespace capio {
namespace {

void AddConfigurationWarnings(const std::string& path, int line, Workflow* workflow) {
  std::string file = workflow->configuration;
  if (file.front() != '/') {
    if (const size_t cut = path.rfind('/'); cut != std::string::npos) {
      file = path.substr(0, cut + 1) + file;
    }
  }
  auto text = ReadTextFile(file, "the file of settings");
  if (!text.ok()) {
    workflow->warnings.push_back(FormatDiagnostic(
        {line, 0, "/configuration",
         std::string(text.status().text()) + "; the workflow runs without its settings"},
        path));
    return;
  }
  for (const TomlLine& found : TomlSettings(*text)) {
    workflow->warnings.push_back(
        Printable(file) + ": line " + std::to_string(found.line) + ": " +
        (found.setting.empty()
             ? "this is neither a setting, a table nor a comment of TOML, and is ignored"
             : "the setting " + Quoted(found.setting) +
                   " is not known here and has no effect; remove it, or keep it for other "
                   "implementations of CAPIO-CL"));
  }
}

}  // namespace

Result<std::string> ReadTextFile(const std::string& path, const std::string& what) {
  const auto failed = [&](int error) {
    return Status::Error(error,
                         "cannot read " + what + " '" + Printable(path) + "': " + strerror(error));
  };
  Fd fd(os().OpenAt(AT_FDCWD, path.c_str(), O_RDONLY, 0));
  if (!fd.valid()) return failed(-fd.get());
  std::string text;
  char buf[1 << 14];
  for (;;) {
    const ssize_t n = os().Read(fd.get(), buf, sizeof buf);
    if (n == -EINTR) continue;
    if (n < 0) return failed(static_cast<int>(-n));
    if (n == 0) return text;
    text.append(buf, static_cast<size_t>(n));
  }
}

Result<LoadedCapioCl> LoadCapioCl(const std::string& path, const ClPlace& place) {
  auto text = ReadTextFile(path, "the CAPIO-CL file");
  if (!text.ok()) return text.status();
  LoadedCapioCl loaded;
  loaded.text = text.take();
  int line = 0;
  auto workflow = ReadCapioCl(loaded.text, path, place, &loaded.errors, &line);
  if (!workflow.ok()) return workflow.status();
  loaded.workflow = workflow.take();
  if (!loaded.workflow.configuration.empty()) {
    AddConfigurationWarnings(path, line, &loaded.workflow);
  }
  return loaded;
}

}  // namespace capio
