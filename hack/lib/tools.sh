# Tools that the tests use and Debian 12 lacks, kept below target/tools.
# shellcheck shell=bash

tools=${CORACLE_TOOLS:-$repo/target/tools}

# debian_newer SUITE PACKAGE PATH NAME: takes the file PATH out of PACKAGE of a newer Debian suite, as $tools/NAME.
# The machine's own package lists stay as they are.
debian_newer() {
    local suite=$1 package=$2 path=$3 name=$4 apt uri key
    [ -x "$tools/$name" ] && return 0
    local sources=/etc/apt/sources.list.d/debian.sources
    if [ -e "$sources" ]; then
        uri=$(awk '/^URIs:/ {print $2; exit}' "$sources")
    else
        uri=$(awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}' /etc/apt/sources.list)
    fi
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    apt=$(mktemp -d)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$tools"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$suite" "$key" >"$apt/parts/newer.sources"
    local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/parts"
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    (cd "$apt" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "$package") >"$apt/log" 2>&1 ||
        { tail -n 3 "$apt/log" >&2; rm -rf "$apt"; die "cannot get $package of Debian $suite"; }
    dpkg-deb --extract "$apt/"*.deb "$apt/root"
    cp "$apt/root/$path" "$tools/$name.partial" && chmod 755 "$tools/$name.partial" && mv "$tools/$name.partial" "$tools/$name"
    rm -rf "$apt"
}

# kubectl_path: prints a kubectl that is new enough (1.28), the machine's own if it is.
kubectl_path() {
    local minor
    minor=$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' | head -n 1)
    if [ -n "$minor" ] && [ "$minor" -ge 28 ]; then
        command -v kubectl
    else
        debian_newer trixie kubernetes-client usr/bin/kubectl kubectl
        echo "$tools/kubectl"
    fi
}
