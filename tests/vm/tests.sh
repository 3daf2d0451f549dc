# The tests, and the end of the machine with what they said.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 COLUMNS=120 NO_COLOR=1
for module in overlay tun loop veth bridge bfq; do
    modprobe "$module"
done
. /settings
cd /checkout
# Through a pipe, for pytest's workers write differently to a terminal.
{ eval ".venv/bin/python -m pytest -q -p no:cacheprovider $(cat /words)"; echo $? >/run/code; } </dev/null | cat
code=$(cat /run/code)
# isa-debug-exit, the port 0xf4; 32 is added so that qemu's own exit codes are others.
printf "\\$(printf %03o $((code + 32)))" | dd of=/dev/port bs=1 seek=244 2>/dev/null
