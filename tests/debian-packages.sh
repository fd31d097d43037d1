#!/bin/sh
# Install the Debian packages that the tests need, and those given as arguments, where this machine lacks them: as root,
# or through sudo if it asks for no password; else name them and fail. Tests start servers of their own; the packages'
# own services are left alone, and not started by the installation.
set -eu

lacks() { ! dpkg-query --show --showformat='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian or Ubuntu: the tests need RabbitMQ, PostgreSQL, nginx, Prosody, Dovecot, Chromium with its driver, and" \
        "Python's documentation as HTML in /usr/share/doc/python3-doc/html" >&2
    exit 0
fi

missing=
for package in rabbitmq-server postgresql nginx prosody dovecot-imapd python3-doc systemd "$@"; do
    if lacks "$package"; then missing="$missing $package"; fi
done
# Chromium may also have come as a snap, as on Ubuntu.
if ! command -v chromium >/dev/null; then missing="$missing chromium"; fi
if ! command -v chromedriver >/dev/null; then missing="$missing chromium-driver"; fi
if [ -z "$missing" ]; then exit 0; fi

if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    echo "The tests need these packages; as root: apt-get install$missing" >&2
    exit 1
fi
echo "Installing$missing"
# None of their services is to begin to listen; this is how Debian's packages ask whether they may start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi
$root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
# shellcheck disable=SC2086 # words are meant
$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $missing >/dev/null
