#!/usr/bin/env bash
# Lays out what the tarball contains: packaging/stage.sh FOLDER BINARY
# The configuration is that of config.d, with its data in /var/lib/siemgate.
set -euo pipefail
umask 022
folder=$1 binary=$2
cd "$(dirname "$0")/.."

mkdir -p "$folder"/{bin,config.d,packaging}
cp "$binary" "$folder/bin/siemgate"
cp packaging/{install.sh,siemgate.service,siemgate.socket,README.md} "$folder/packaging/"
ln -sfn packaging/install.sh "$folder/install.sh"
cp README.md CHANGELOG.md LICENSE "$folder/"
cp -R docs dashboards "$folder/"
for file in config.d/*.toml config.d/*.example; do
    # Commands are run from any folder, so that a path must not depend on it.
    sed -e 's/Every key here has this value anyway; c/C/' -e 's#\bdata/#/var/lib/siemgate/#g' -e 's/ *# relative to the working directory$//' \
        "$file" >"$folder/$file"
done

# The program writes its own manual pages and completions.
mkdir -p "$folder"/{man,completions/{bash,zsh,fish}}
"$binary" man "$folder/man"
"$binary" completions bash >"$folder/completions/bash/siemgate"
"$binary" completions zsh >"$folder/completions/zsh/_siemgate"
"$binary" completions fish >"$folder/completions/fish/siemgate.fish"
chmod -R u=rwX,go=rX "$folder"
chmod 755 "$folder/bin/siemgate" "$folder/packaging/install.sh"
