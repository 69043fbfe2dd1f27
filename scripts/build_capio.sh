#!/bin/bash
# Builds libcapio.so and capio_server, into pycapio/_native/ or under a prefix. See usage().
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}

usage() {
  cat <<'USAGE'
usage: scripts/build_capio.sh [--prefix DIR | --native DIR] [--debug | --sanitize=LIST] [--tests]

Builds the engine of vendor/capio. Without --prefix the result is put into pycapio/_native/, where the
Python package looks for it.

  --prefix DIR      install there instead: header, library, server, pkg-config file
  --native DIR      put libcapio.so and capio_server there instead of pycapio/_native/
  --debug           unoptimised, with debug information
  --sanitize=LIST   with sanitizers: address,undefined or thread
  --tests           build the unit tests too, and install nothing unless --prefix or --native is given;
                    run them with: ctest --test-dir build/CONFIG
  --help            show this

Environment: CXX, CC, CXXFLAGS, LDFLAGS; PYTHON (which python's packages may provide cmake, ninja and the
JSON headers); NLOHMANN_JSON_INCLUDE_DIR; CAPIO_BUILD_DIR (default build/); CAPIO_WERROR=ON;
CMAKE_BUILD_PARALLEL_LEVEL (default: the number of cores).
USAGE
}

refuse() { # a wrong command line
  echo "build_capio.sh: $1; see --help" >&2
  exit 2
}

fail() { # something is missing
  echo "build_capio.sh: $1" >&2
  exit 1
}

prefix='' native='' config='' build_type=RelWithDebInfo sanitize='' tests=OFF

set_config() {
  [[ -z $config ]] || refuse "--debug and --sanitize exclude each other and may be given once"
  config=$1
}

while (($#)); do
  case $1 in
    --prefix=* | --native=*)
      option=${1%%=*} value=${1#*=}
      shift
      set -- "$option" "$value" "$@"
      continue
      ;;
    --prefix | --native)
      [[ $# -ge 2 && -n $2 && $2 != -* ]] || refuse "$1 needs a directory"
      [[ -z $prefix && -z $native ]] || refuse "--prefix and --native exclude each other and may be given once"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --debug)
      set_config debug
      build_type=Debug
      ;;
    --sanitize=*)
      sanitize=${1#*=}
      case $sanitize in
        address | undefined | address,undefined | thread) ;;
        *) refuse "--sanitize is '$sanitize', but may be address, undefined, address,undefined or thread" ;;
      esac
      set_config "sanitize-${sanitize/,/-}"
      ;;
    --tests) tests=ON ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) refuse "unknown argument '$1'" ;;
  esac
  shift
done
config=${config:-release}

# ---- What the build needs --------------------------------------------------------------------------

have() { command -v "$1" >/dev/null 2>&1; }

if [[ -n ${CXX:-} ]]; then
  have "${CXX%% *}" || fail "the C++ compiler CXX='$CXX' was not found; correct CXX or unset it"
elif have c++; then
  :
elif have g++; then
  export CXX=g++
elif have clang++; then
  export CXX=clang++
else
  fail "no C++ compiler was found; install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"
fi
# The C compiler of the same family, so that one package is enough.
if [[ -z ${CC:-} ]] && ! have cc; then
  if have gcc; then export CC=gcc; elif have clang; then export CC=clang; fi
fi

module_dir() { # the directory of python package $1, if there is one; the package is not imported
  "$python" -c 'import importlib.util as u, sys
spec = u.find_spec(sys.argv[1])
print(next(iter(spec.submodule_search_locations or []), "") if spec else "")' "$1" 2>/dev/null || true
}

scripts_dir() { "$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))' 2>/dev/null || true; }

if have cmake; then
  cmake=cmake
else
  dir=$(module_dir cmake)
  cmake=$dir/data/bin/cmake
  [[ -n $dir && -x $cmake ]] ||
    fail "cmake was not found; install it (pip install cmake; Debian, Ubuntu: apt install cmake; Fedora: dnf install cmake)"
fi

if have ninja; then
  make=$(command -v ninja) generator=Ninja
elif dir=$(scripts_dir) && [[ -x $dir/ninja ]]; then
  make=$dir/ninja generator=Ninja
elif have make; then
  make=$(command -v make) generator='Unix Makefiles'
else
  fail "neither ninja nor make was found; install one (pip install ninja; Debian, Ubuntu: apt install make; Fedora: dnf install make)"
fi

build=${CAPIO_BUILD_DIR:-$root/build}/$config
mkdir -p "$build"
build=$(cd "$build" && pwd)

# Two builds of one configuration take turns.
if have flock; then
  exec 9>"$build/.lock"
  flock 9
fi

json=${NLOHMANN_JSON_INCLUDE_DIR:-}
if [[ -n $json ]]; then
  [[ -e $json/nlohmann/json.hpp ]] ||
    fail "NLOHMANN_JSON_INCLUDE_DIR is '$json', which does not hold nlohmann/json.hpp"
else
  dir=$(module_dir nlohmann_json)
  [[ -n $dir && -e $dir/include/nlohmann/json.hpp ]] && json=$dir/include
fi
if [[ -n $json ]]; then
  # Under one name, whatever throw-away environment pip made: the compile commands stay the same, and
  # what is built already stays built.
  mkdir -p "$build/json"
  ln -sfn "$(cd "$json" && pwd)/nlohmann" "$build/json/nlohmann"
  json=$build/json
fi

# ---- Build -----------------------------------------------------------------------------------------

# A cached generator that is gone, or a moved source tree, means starting over.
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
if [[ -e $build/CMakeCache.txt ]]; then
  if [[ $(cached CMAKE_GENERATOR) != "$generator" || $(cached CMAKE_HOME_DIRECTORY) != "$root/vendor/capio" ]]; then
    rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"
  fi
fi

log=$build/configure.log
if ! "$cmake" -S "$root/vendor/capio" -B "$build" -G "$generator" \
  -DCMAKE_MAKE_PROGRAM="$make" -DCMAKE_BUILD_TYPE="$build_type" -DCMAKE_INSTALL_LIBDIR=lib \
  -DCAPIO_BUILD_TESTS="$tests" -DCAPIO_SANITIZE="$sanitize" -DCAPIO_WERROR="${CAPIO_WERROR:-OFF}" \
  -DNLOHMANN_JSON_INCLUDE_DIR="$json" >"$log" 2>&1; then
  cat "$log" >&2
  fail "cmake could not configure the build; its messages are above and in $log"
fi
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc 2>/dev/null || echo 1)}
"$cmake" --build "$build" || fail "the compilation failed; the messages are above"

# ---- Install ---------------------------------------------------------------------------------------

strip=()
[[ $config == release ]] && strip=(--strip)

if [[ -n $prefix ]]; then
  mkdir -p "$prefix"
  prefix=$(cd "$prefix" && pwd)
  "$cmake" --install "$build" --prefix "$prefix" "${strip[@]}" >/dev/null
  exit 0
fi
[[ $tests == ON && -z $native ]] && exit 0

native=${native:-$root/pycapio/_native}
mkdir -p "$native"
stage=$build/stage
rm -rf "$stage"
"$cmake" --install "$build" --prefix "$stage" "${strip[@]}" >/dev/null
put() { # renamed into place: a running process keeps the file it has mapped
  if ! cmp -s "$1" "$2"; then
    cp -L "$1" "$2.new.$$"
    chmod 755 "$2.new.$$"
    mv -f "$2.new.$$" "$2"
  fi
}
put "$stage/lib/libcapio.so" "$native/libcapio.so"
put "$stage/bin/capio_server" "$native/capio_server"
