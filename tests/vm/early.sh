#!/bin/busybox sh
# Process 1 on the first root: reach the disk, and go on there with the checkout in sight.
/bin/busybox --install -s /bin
for module in /modules/*.ko; do
    insmod "$module" || echo "early.sh: cannot load $module"
done
mount -t devtmpfs dev /dev
mount -t ext4 /dev/vda /disk || exec sh -c 'echo early.sh: no disk; poweroff -f'
mount --bind /checkout /disk/checkout
cp /inside.sh /words /disk/run
cd /disk
mount --move . /
exec chroot . /bin/sh /run/inside.sh
