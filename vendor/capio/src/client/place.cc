#include "client/place.h"

#include <limits.h>

#include "capio/capio.h"
#include "os/paths.h"
#include "store/walk.h"

namespace capio {
namespace {

bool IsHidden(std::string_view relative) {
  return relative == ".capio" || relative.starts_with(".capio/");
}

// The absolute form of a path, not normalised; *moved if it is taken from a directory of the store.
Result<std::string> Absolute(Session* session, std::string_view path, bool* moved) {
  if (path.empty()) return Status::Error(ENOENT);
  if (path.find('\0') != std::string_view::npos) return Status::Error(EINVAL);
  if (path.front() == '/') return std::string(path);
  char cwd[PATH_MAX];
  if (int error = os().Getcwd(cwd, sizeof cwd); error < 0) return Status::Error(-error);
  std::string base = cwd;
  if (auto inside = FromKernelName(session, base); inside.ok()) {
    std::string real = InRealDirectory(*session, *inside);
    *moved = real != base;
    base = std::move(real);
  }
  return base.append(1, '/').append(path);
}

// A path taken from a current directory that is CAPIO_DIR's own, if that is all that there is to
// it.
bool BelowCwd(const Session& session, std::string_view path, std::string* relative) {
  char cwd[PATH_MAX];
  if (!IsNormalBelow(path) || os().Getcwd(cwd, sizeof cwd) < 0) return false;
  if (!PathBelow(cwd, session.real_dir(), relative)) return false;
  if (!relative->empty()) *relative += '/';
  relative->append(path);
  return true;
}

// ".." of something that is not there, or is no directory, leads nowhere: normalising alone would
// hide that. For paths without links.
Status CheckDotDot(Session* session, std::string_view path) {
  for (size_t at = path.find("/.."); at != std::string_view::npos; at = path.find("/..", at + 1)) {
    if (at == 0 || (at + 3 < path.size() && path[at + 3] != '/')) continue;
    std::string prefix = NormalizePath(path.substr(0, at));
    std::string relative;
    if (!PathBelow(prefix, session->dir(), &relative) &&
        !PathBelow(prefix, session->real_dir(), &relative)) {
      continue;
    }
    struct stat st = {};
    auto layer = session->store().layers->Find(relative, &st, true);
    if (!layer.ok()) return layer.status();
    if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  }
  return Status::Ok();
}

}  // namespace

std::string InRealDirectory(const Session& session, const std::string& relative) {
  return relative.empty() ? session.real_dir() : session.real_dir() + "/" + relative;
}

Result<std::string> FromKernelName(Session* session, std::string_view name) {
  std::string relative;
  if (PathBelow(name, session->tree_dir(), &relative)) return relative;
  if (!PathBelow(name, session->real_dir(), &relative)) return Status::Error(CAPIO_UNMANAGED);
  if (!IsHidden(relative)) return relative;
  std::string in_fs;
  if (PathBelow(relative, session->store().fs->path(), &in_fs)) return in_fs;
  return Status::Error(CAPIO_UNMANAGED);
}

Result<Place> PlaceOf(Session* session, std::string_view path, bool follow) {
  // As the kernel counts, which is never shown the whole of it.
  if (path.size() >= PATH_MAX) return Status::Error(ENAMETOOLONG);
  Place place;
  const Layers& layers = *session->store().layers;
  // What most programs use needs no copy.
  if (!layers.links() &&
      ((IsNormal(path) && PathBelow(path, session->dir(), &place.path)) ||
       BelowCwd(*session, path, &place.path)) &&
      !IsHidden(place.path)) {
    if (!layers.LinkAbove(place.path)) return place;
    layers.NoteLink();
  }
  bool moved = false;
  auto absolute = Absolute(session, path, &moved);
  if (!absolute.ok()) return absolute.status();
  place.literal = !moved;
  std::string normal = NormalizePath(*absolute);
  bool inside = PathBelow(normal, session->dir(), &place.path) ||
                PathBelow(normal, session->real_dir(), &place.path);
  bool up = absolute->find("/..") != std::string::npos;
  if (!layers.links() && inside && !IsHidden(place.path)) {
    bool ahead = layers.LinkAbove(place.path);
    if (!ahead && up) {
      Status up_there = CheckDotDot(session, *absolute);
      ahead = up_there.code() == kLinkAhead;
      if (!ahead && !up_there.ok()) return up_there;
    }
    if (!ahead) return place;
    layers.NoteLink();
  }
  // ".." may lead out of a directory that only the store has.
  if (!up && (!layers.links() || !inside)) {
    if (!moved) return Status::Error(CAPIO_UNMANAGED);
    place.inside = false;
    place.path = std::move(normal);
    return place;
  }
  auto walked =
      Walk(layers, {session->dir(), session->real_dir(), session->tree_dir()}, *absolute, follow);
  if (!walked.ok()) {
    std::string begin;
    bool ours = PathBelow(*absolute, session->dir(), &begin) ||
                PathBelow(*absolute, session->real_dir(), &begin);
    // Of what is outside the kernel itself says what is wrong.
    return ours || inside || moved ? walked.status() : Status::Error(CAPIO_UNMANAGED);
  }
  place.inside = walked->inside;
  place.path = std::move(walked->path);
  // As given, the kernel would follow links in one layer only.
  if (walked->through) place.literal = false;
  if (!place.inside && place.literal) return Status::Error(CAPIO_UNMANAGED);
  return place;
}

}  // namespace capio
