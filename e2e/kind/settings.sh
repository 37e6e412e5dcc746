# What the scripts here agree on; to be sourced.

# Kubernetes of the node image that is built where none can be pulled. CI's cluster has this version.
K8S=1.34.4
KIND=v0.33.0
HELM=v3.21.4
ETCD=v3.6.10
COREDNS=v1.14.7
# Prometheus 3.16.
PROMETHEUS=v0.316.0

# Names of the mesh's images in the cluster: nothing is ever pulled by them.
HUB=localhost/mesh
TAG=e2e

# Programs that were built are kept here from one run to the next.
CACHE=${E2E_KIND_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mesh-e2e-kind}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# Installs Debian packages, where they are missing and may be installed.
packages() {
  local missing=() p
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ "${#missing[@]}" = 0 ] && return
  [ "$(id -u)" = 0 ] || die "install these packages first: ${missing[*]}"
  # Another installation may be going on; only the first try is quiet, for the lists of packages may be old.
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { "${apt[@]}" update; "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null; }
}

# Copies programs of this machine into a root file system, with the libraries they load.
copy_programs() { # ROOT PROGRAM...
  local root=$1 program path; shift
  mkdir -p "$root"/usr/{bin,sbin,lib} "$root"/lib64
  for l in bin sbin lib; do [ -e "$root/$l" ] || ln -s "usr/$l" "$root/$l"; done
  for program in "$@"; do
    case $program in
      /*) path=$program ;;
      *) path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin type -P "$program") || die "the program $program is not installed" ;;
    esac
    case $(readlink -f "$(dirname "$path")") in */sbin) cp -L "$path" "$root/usr/sbin/" ;; *) cp -L "$path" "$root/usr/bin/" ;; esac
    copy_libraries "$root" "$path"
  done
}

# Copies what these files are linked with to where the loader looks for it.
copy_libraries() { # ROOT FILE...
  local root=$1 library; shift
  # `ldd` fails for a file that is linked with nothing.
  { ldd "$@" 2>/dev/null || true; } | awk '/=> \//{print $3} $1 ~ /^\/lib/{print $1}' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    [ -e "$root$library" ] || cp -L "$library" "$root$library"
  done
}

# Makes an image of a root file system; the rest are Dockerfile instructions.
image() { # NAME ROOT [INSTRUCTION...]
  local name=$1 root=$2 changes=() c; shift 2
  for c in "$@"; do changes+=(-c "$c"); done
  # In an image of a person who is not root everything is root's all the same.
  local owner=()
  [ "$(id -u)" = 0 ] || owner=(--owner=0 --group=0)
  tar -C "$root" "${owner[@]}" --numeric-owner -c . | docker import "${changes[@]}" - "$name" >/dev/null
}
