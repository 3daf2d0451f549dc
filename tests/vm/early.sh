#!/bin/busybox sh
# Process 1 on the first root: reach the disk, and go on there with the checkout in sight,
# as inside.sh or, where the kernel's command line asks for it, as systemd.
/bin/busybox --install -s /bin
for module in /modules/*.ko; do
    insmod "$module" || echo "early.sh: cannot load $module"
done
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t ext4 /dev/vda /disk || exec sh -c 'echo early.sh: no disk; poweroff -f'
mount --bind /checkout /disk/checkout
cp /inside.sh /tests.sh /words /settings /disk
cp /oci-tests.service /disk/etc/systemd/system
program="/bin/sh /inside.sh"
grep -q systemd.unit= /proc/cmdline && program=/lib/systemd/systemd
umount /proc
cd /disk
mount --move . /
exec chroot . $program
