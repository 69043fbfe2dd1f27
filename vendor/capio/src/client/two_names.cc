#include "client/two_names.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "capio/capio.h"
#include "client/namespace.h"
#include "client/place.h"
#include "os/paths.h"

namespace capio {
namespace {

// Links that come and go are followed so many times.
constexpr int kMostLooks = 40;

// An entry of a directory, as the last component of a path names it.
struct Entry {
  NameEnd end;
  Ending ending = Ending::kName;
  bool literal = true;  // the path as given will do for the kernel, if the entry is not CAPIO's
  Status located;       // where the way to it leads nowhere
};

Status StatOutside(const std::string& path, int flags, struct stat* st) {
  int error = os().FstatAt(AT_FDCWD, path.c_str(), st, flags);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

// lstat(2).
Status StatEnd(Session* session, const NameEnd& end, struct stat* st) {
  if (end.managed) return session->store().layers->Find(end.relative, st, false).status();
  return StatOutside(end.path, AT_SYMLINK_NOFOLLOW, st);
}

Status CheckDirectory(Session* session, const std::string& relative) {
  struct stat st = {};
  auto layer = session->store().layers->Find(relative, &st, true);
  if (!layer.ok()) return layer.status();
  return S_ISDIR(st.st_mode) ? Status::Ok() : Status::Error(ENOTDIR);
}

// follow: what a link leads to is meant. new_name: an excluded one gets its parents.
Entry Locate(Session* session, std::string_view path, bool follow, bool new_name) {
  Entry entry;
  entry.ending = EndingOf(path);
  entry.end.path = path;
  std::string_view wanted = path;
  if (!follow && entry.ending == Ending::kSlash) {
    wanted = path.substr(0, path.find_last_not_of('/') + 1);
  }
  auto place = PlaceOf(session, wanted, follow || entry.ending == Ending::kDot);
  if (!place.ok()) {
    if (place.code() != CAPIO_UNMANAGED) entry.located = place.status();
    return entry;
  }
  if (place->inside && !session->RuleOf(place->path)->excluded) {
    entry.end.managed = true;
    entry.end.relative = std::move(place->path);
    return entry;
  }
  if (place->inside && new_name) session->store().layers->MakeRealParents(place->path);
  if (place->literal) return entry;
  entry.literal = false;
  entry.end.path = place->inside ? InRealDirectory(*session, place->path) : std::move(place->path);
  if (entry.ending != Ending::kName) entry.end.path += entry.ending == Ending::kDot ? "/." : "/";
  return entry;
}

// The directory that the entry is in has to be there; of "d/." and "d/.." that is d.
Status CheckWay(Session* session, const Entry& entry) {
  CAPIO_RETURN_IF_ERROR(entry.located);
  if (entry.end.managed) {
    const std::string& relative = entry.end.relative;
    return CheckDirectory(
        session, entry.ending == Ending::kDot ? relative : std::string(ParentOf(relative)));
  }
  std::string parent = entry.end.path;
  if (entry.ending != Ending::kDot) {
    parent.resize(parent.find_last_not_of('/') + 1);
    parent.resize(parent.rfind('/') + 1);  // npos + 1 is 0
  }
  struct stat st = {};
  CAPIO_RETURN_IF_ERROR(StatOutside(parent.empty() ? "." : parent, 0, &st));
  return S_ISDIR(st.st_mode) ? Status::Ok() : Status::Error(ENOTDIR);
}

std::string WithoutSlash(std::string path) {
  if (size_t end = path.find_last_not_of('/'); end != std::string::npos) path.resize(end + 1);
  return path;
}

Status RenameOnce(Session* session, std::string_view from_path, std::string_view to_path) {
  Entry from = Locate(session, from_path, false, false);
  Entry to = Locate(session, to_path, false, true);
  if (from.located.ok() && to.located.ok() && !from.end.managed && !to.end.managed) {
    if (from.literal && to.literal) return Status::Error(CAPIO_UNMANAGED);
    int error = os().RenameAt(AT_FDCWD, from.end.path.c_str(), AT_FDCWD, to.end.path.c_str());
    return error < 0 ? Status::Error(-error) : Status::Ok();
  }
  if (from.end.managed) CAPIO_RETURN_IF_ERROR(AwaitIfDeclared(session, from.end.relative));
  CAPIO_RETURN_IF_ERROR(CheckWay(session, from));
  CAPIO_RETURN_IF_ERROR(CheckWay(session, to));
  if (from.ending == Ending::kDot || to.ending == Ending::kDot) return Status::Error(EBUSY);
  from.end.path = WithoutSlash(std::move(from.end.path));
  to.end.path = WithoutSlash(std::move(to.end.path));
  struct stat st = {};
  struct stat over = {};
  CAPIO_RETURN_IF_ERROR(StatEnd(session, from.end, &st));
  Status there = StatEnd(session, to.end, &over);
  if (!there.ok() && there.code() != ENOENT) return there;
  // Only a directory may be named, or be given a name, with a slash.
  if (!S_ISDIR(st.st_mode) && (from.ending == Ending::kSlash || to.ending == Ending::kSlash)) {
    return Status::Error(ENOTDIR);
  }
  return RenamePath(session, from.end, to.end);
}

Status LinkOnce(Session* session, std::string_view from_path, std::string_view to_path,
                bool follow) {
  Entry from = Locate(session, from_path, follow || EndingOf(from_path) != Ending::kName, false);
  Entry to = Locate(session, to_path, false, true);
  if (from.located.ok() && to.located.ok() && !from.end.managed && !to.end.managed) {
    if (from.literal && to.literal) return Status::Error(CAPIO_UNMANAGED);
    int error = os().LinkAt(AT_FDCWD, from.end.path.c_str(), AT_FDCWD, to.end.path.c_str(), 0);
    return error < 0 ? Status::Error(-error) : Status::Ok();
  }
  CAPIO_RETURN_IF_ERROR(from.located);
  if (from.end.managed) CAPIO_RETURN_IF_ERROR(AwaitIfDeclared(session, from.end.relative));
  struct stat st = {};
  if (from.end.managed) {
    CAPIO_RETURN_IF_ERROR(session->store().layers->Find(from.end.relative, &st, follow).status());
  } else {
    CAPIO_RETURN_IF_ERROR(StatEnd(session, from.end, &st));
  }
  if (from.ending != Ending::kName && !S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  CAPIO_RETURN_IF_ERROR(CheckWay(session, to));
  if (to.ending == Ending::kDot) return Status::Error(EEXIST);
  to.end.path = WithoutSlash(std::move(to.end.path));
  Status there = StatEnd(session, to.end, &st);
  if (there.code() != ENOENT) return there.ok() ? Status::Error(EEXIST) : there;
  // What is asked for is a directory.
  if (to.ending == Ending::kSlash) return Status::Error(ENOENT);
  return LinkPath(session, from.end, to.end);
}

template <typename Call>
Status WhileLinksChange(Call call) {
  for (int look = 0; look < kMostLooks; ++look) {
    Status status = call();
    if (status.code() != kLinkAhead) return status;
  }
  return Status::Error(ELOOP);
}

}  // namespace

Status RenameNames(Session* session, std::string_view from, std::string_view to) {
  return WhileLinksChange([&] { return RenameOnce(session, from, to); });
}

Status LinkNames(Session* session, std::string_view from, std::string_view to, bool follow) {
  return WhileLinksChange([&] { return LinkOnce(session, from, to, follow); });
}

}  // namespace capio
