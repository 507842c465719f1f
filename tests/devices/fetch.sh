#!/bin/sh
# Downloads Debian's own sshd, adb and adbd and unpacks them into a folder, for the tests of ssh and adb devices. Nothing
# is installed: apt gets lists and a cache of its own. Needs a Debian 12 (adbd is in its backports) or newer.
#
#     tests/devices/fetch.sh FOLDER && EDGE_EXPORT_DOUBLES=FOLDER pytest tests/devices
set -eu
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
folder=$(cd "$1" && pwd)
. /etc/os-release
{
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $VERSION_CODENAME main"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $VERSION_CODENAME-backports main"
} >"$folder/apt/sources.list"
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
  openssh-client openssh-server "adb/$VERSION_CODENAME-backports" "adbd/$VERSION_CODENAME-backports"
for package in "$folder"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$folder"; done
rm -r "$folder/apt"
