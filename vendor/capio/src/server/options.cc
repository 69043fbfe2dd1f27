#include "server/options.h"

#include <stdlib.h>

#include <array>
#include <string_view>

namespace capio {
namespace {

struct Option {
  char short_name;
  std::string_view name;
  std::string ServerOptions::* text;
  bool ServerOptions::* flag;
};

constexpr std::array kOptions = {
    Option{'c', "config", &ServerOptions::config_path, nullptr},
    Option{0, "no-config", nullptr, &ServerOptions::no_config},
    Option{'b', "backend", &ServerOptions::backend, nullptr},
    Option{'r', "resolve-prefix", &ServerOptions::resolve_prefix, nullptr},
    Option{0, "mem-only", nullptr, &ServerOptions::mem_only},
    Option{'d', "capio-dir", &ServerOptions::capio_dir, nullptr},
    Option{'w', "workflow-name", &ServerOptions::workflow, nullptr},
    Option{'s', "silent", nullptr, &ServerOptions::silent},
    Option{0, "persist", nullptr, &ServerOptions::persist},
    Option{0, "resume", nullptr, &ServerOptions::resume},
    Option{0, "daemon", nullptr, &ServerOptions::daemon},
    Option{0, "take-over", &ServerOptions::take_over, nullptr},
    Option{'h', "help", nullptr, &ServerOptions::help},
    Option{'V', "version", nullptr, &ServerOptions::version},
};

const Option* FindOption(std::string_view word) {
  for (const Option& option : kOptions) {
    if (word.size() == 2 && word[0] == '-' && option.short_name != 0 &&
        word[1] == option.short_name) {
      return &option;
    }
    if (word.substr(0, 2) == "--" && word.substr(2) == option.name) return &option;
  }
  return nullptr;
}

Status Bad(const std::string& text) {
  return Status::Error(EINVAL, text + "; see capio_server --help");
}

}  // namespace

const char* ServerUsage() {
  return "usage: capio_server (--config FILE | --no-config) [options]\n"
         "\n"
         "Keeps the store of one workflow. Clients start it themselves; run it by hand to choose\n"
         "its settings.\n"
         "\n"
         "  -c, --config FILE          the workflow's CAPIO-CL file\n"
         "      --no-config            run without one\n"
         "  -d, --capio-dir DIR        the managed directory (default $CAPIO_DIR, else \".\")\n"
         "  -w, --workflow-name NAME   default $CAPIO_WORKFLOW_NAME, else \"workflow\"\n"
         "  -b, --backend none|mpi     how servers of several nodes reach each other (default "
         "none)\n"
         "  -r, --resolve-prefix DIR   what relative CAPIO-CL entries are taken from\n"
         "      --mem-only             keep every file in memory, whatever the CAPIO-CL file says\n"
         "      --persist              without CAPIO-CL: write every file to CAPIO_DIR at the end\n"
         "      --resume               files of an earlier run count as produced, for all steps\n"
         "  -s, --silent               no messages but errors\n"
         "      --daemon               run in the background\n"
         "      --take-over ID         the store of this id is this run's, whoever made it\n"
         "      --ready-fd N           write \"ready\" to descriptor N when serving\n"
         "  -V, --version              print the version and exit\n"
         "  -h, --help                 print this and exit\n";
}

Result<ServerOptions> ParseServerOptions(const std::vector<std::string>& words) {
  ServerOptions options;
  if (const char* dir = ::getenv("CAPIO_DIR"); dir != nullptr && *dir != '\0') {
    options.capio_dir = dir;
  }
  if (const char* name = ::getenv("CAPIO_WORKFLOW_NAME"); name != nullptr && *name != '\0') {
    options.workflow = name;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    std::string word = words[i];
    std::string value;
    bool attached = false;
    if (size_t equals = word.find('='); word.rfind("--", 0) == 0 && equals != std::string::npos) {
      value = word.substr(equals + 1);
      word.resize(equals);
      attached = true;
    }
    const Option* option = FindOption(word);
    bool ready = word == "--ready-fd";
    if (option == nullptr && !ready) {
      return Bad(words[i].rfind('-', 0) == 0 ? "unknown option " + words[i]
                                             : "unexpected argument '" + words[i] + "'");
    }
    if (option != nullptr && option->flag != nullptr) {
      if (attached) return Bad(word + " takes no value");
      options.*(option->flag) = true;
      continue;
    }
    if (!attached) {
      if (i + 1 == words.size()) return Bad(word + " needs a value");
      value = words[++i];
    }
    if (ready) {
      char* end = nullptr;
      long fd = ::strtol(value.c_str(), &end, 10);
      if (value.empty() || *end != '\0' || fd < 0 || fd > 1 << 20) {
        return Bad("--ready-fd takes a descriptor number, not '" + value + "'");
      }
      options.ready_fd = static_cast<int>(fd);
    } else {
      options.*(option->text) = value;
    }
  }
  if (options.help || options.version) return options;
  if (!options.config_path.empty() && options.no_config) {
    return Bad("--config and --no-config exclude each other");
  }
  if (options.config_path.empty() && !options.no_config) {
    return Bad("give --config FILE or --no-config");
  }
  if (options.workflow.empty()) return Bad("the workflow name is empty");
  return options;
}

}  // namespace capio
