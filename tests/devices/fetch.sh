#!/bin/sh
# Downloads Debian's own ssh, sshd, adb and adbd, with Android's shell and tools (mksh, toybox), and unpacks them into a
# folder, for the tests of ssh and adb devices. Nothing is installed: apt gets lists and a cache of its own, and this machine's mirror. Debian 12 or newer, after
# `apt-get update` (adbd is in the backports of 12).
#
#     tests/devices/fetch.sh FOLDER && EDGE_EXPORT_DOUBLES=FOLDER pytest tests/devices
set -eu
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
folder=$(cd "$1" && pwd)
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" 'Component: main' | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "fetch.sh: apt has no list of $VERSION_CODENAME; run apt-get update" >&2; exit 1; }
for suite in "$VERSION_CODENAME" "$VERSION_CODENAME-backports"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$folder/apt/sources.list"
cat >"$folder/apt/apt.conf" <<END
Dir::State::lists "$folder/apt/lists";
Dir::Cache "$folder/apt";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Sandbox::User "";
Debug::NoLocking "true";
END
export APT_CONFIG="$folder/apt/apt.conf"
apt-get -qq update
apt-get -qq --yes --no-install-recommends --download-only --reinstall install \
  openssh-client openssh-server mksh toybox "adb/$VERSION_CODENAME-backports" "adbd/$VERSION_CODENAME-backports"
for package in "$folder"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$folder"; done
rm -r "$folder/apt"
