#include "store/walk.h"

#include <fcntl.h>
#include <limits.h>

#include <vector>

#include "os/paths.h"

namespace capio {
namespace {

constexpr int kMostLinks = 40;  // the kernel's

class Walker {
 public:
  Walker(const Layers& layers, const WalkRoots& roots) : layers_(layers), roots_(roots) {}

  Result<Walked> Run(std::string_view path, bool follow) {
    // Without a look at the directories above it, which are as they are.
    std::string below;
    if (PathBelow(path, roots_.dir, &below) || PathBelow(path, roots_.real_dir, &below)) {
      at_.inside = at_.through = true;
      path = below;
    }
    Push(path);
    while (!rest_.empty()) {
      std::string name = std::move(rest_.back());
      rest_.pop_back();
      if (name == ".") continue;
      Status step = name == ".." ? Up() : Down(name, follow || !rest_.empty());
      if (!step.ok()) return step;
    }
    if (!at_.inside && at_.path.empty()) at_.path = "/";
    return at_;
  }

 private:
  // What is to be walked next. A slash at the end asks for a directory, as "." does.
  void Push(std::string_view path) {
    if (!path.empty() && path.back() == '/') rest_.emplace_back(".");
    for (size_t end = path.size(); end > 0;) {
      size_t cut = path.rfind('/', end - 1);
      size_t start = cut == std::string_view::npos ? 0 : cut + 1;
      if (start < end) rest_.emplace_back(path.substr(start, end - start));
      end = cut == std::string_view::npos ? 0 : cut;
    }
  }

  bool Look(const std::string& path, struct stat* st, Layer* layer) const {
    if (!at_.inside) {
      return os().FstatAt(AT_FDCWD, path.empty() ? "/" : path.c_str(), st, AT_SYMLINK_NOFOLLOW) ==
             0;
    }
    *layer = Layer::kReal;
    return layers_.InStore(path, st, layer) || layers_.InReal(path, st);
  }

  // What is wrong with a path at which there is nothing.
  Status WhyNot() const {
    struct stat st = {};
    if (at_.inside) return layers_.Find(at_.path, &st, false).status();
    int error = os().FstatAt(AT_FDCWD, at_.path.c_str(), &st, AT_SYMLINK_NOFOLLOW);
    return Status::Error(error < 0 ? -error : ENOENT);
  }

  Status Up() {
    struct stat st = {};
    Layer layer = Layer::kReal;
    if (!Look(at_.path, &st, &layer)) return WhyNot();
    if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
    if (!at_.inside) {
      at_.path.resize(at_.path.empty() ? 0 : at_.path.rfind('/'));
      Enter();
    } else if (at_.path.empty()) {
      Leave(roots_.real_dir.substr(0, roots_.real_dir.rfind('/')));
    } else {
      at_.path = std::string(ParentOf(at_.path));
    }
    return Status::Ok();
  }

  Status Down(const std::string& name, bool follow) {
    std::string next = at_.inside ? Below(at_.path, name) : at_.path + "/" + name;
    struct stat st = {};
    Layer layer = Layer::kReal;
    if (follow && Look(next, &st, &layer) && S_ISLNK(st.st_mode)) {
      if (++links_ > kMostLinks) return Status::Error(ELOOP);
      auto target = Target(next, layer);
      if (!target.ok()) return target.status();
      if (target->empty()) return Status::Error(ENOENT);
      if (target->front() == '/') Leave("");
      Push(*target);
      return Status::Ok();
    }
    at_.path = std::move(next);
    if (at_.inside && at_.path == ".capio") Leave(std::string(roots_.real_dir) + "/.capio");
    if (!at_.inside) Enter();
    return Status::Ok();
  }

  Result<std::string> Target(const std::string& path, Layer layer) const {
    if (at_.inside) return layers_.ReadLink(layer, path);
    std::string target(PATH_MAX, '\0');
    ssize_t size = os().ReadlinkAt(AT_FDCWD, path.c_str(), target.data(), target.size());
    if (size < 0) return Status::Error(static_cast<int>(-size));
    target.resize(static_cast<size_t>(size));
    return target;
  }

  void Leave(std::string_view to) {
    at_.inside = false;
    at_.path = to;
  }

  void Enter() {
    if (at_.path != roots_.dir && at_.path != roots_.real_dir && at_.path != roots_.tree) return;
    at_.inside = at_.through = true;
    at_.path.clear();
  }

  const Layers& layers_;
  const WalkRoots& roots_;
  std::vector<std::string> rest_;  // last first
  Walked at_;
  int links_ = 0;
};

}  // namespace

Result<Walked> Walk(const Layers& layers, const WalkRoots& roots, std::string_view path,
                    bool follow) {
  return Walker(layers, roots).Run(path, follow);
}

}  // namespace capio
