#!/usr/bin/env bash
# Process 1 of a box: it makes the file system of the box from an overlay of this machine's, then runs sshd.
# Called by boxes.py in new namespaces, with the folder and the name of the box; the other settings are variables.
set -euo pipefail
box=$1 name=$2
user=ubuntu home=/home/ubuntu
mount --make-rprivate /
mount -t tmpfs -o size=1g,mode=755 tmpfs "$box/rw"
mkdir "$box/rw/up" "$box/rw/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$box/rw/up,workdir=$box/rw/work" "$box/root"
cd "$box/root"
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o "size=$SHM,mode=1777" tmpfs dev/shm
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=711 tmpfs root # hides all files of root, except the Python below
mkdir -p ".$PYTHON_PREFIX"
mount --bind -o ro "$PYTHON_PREFIX" ".$PYTHON_PREFIX"
mount --bind "$box/tmp" tmp
chmod 1777 tmp
mkdir -p "home/$user"
mount --bind "$box/home" "home/$user"
# Each line of BINDS: a path of this machine, its path in the box, and ro, rw or copy (an overlay that the user may write)
number=0
while read -r from to mode; do
    [ -n "$from" ] || continue
    mkdir -p ".$to"
    if [ "$mode" = copy ]; then
        number=$((number + 1))
        mkdir "$box/rw/up-$number" "$box/rw/work-$number"
        mount -t overlay overlay -o "lowerdir=$from,upperdir=$box/rw/up-$number,workdir=$box/rw/work-$number" ".$to"
        find ".$to" -maxdepth 3 -type d -exec chown "$USER_ID:$USER_ID" {} +
        find ".$to" -maxdepth 2 -type f -exec chown "$USER_ID:$USER_ID" {} +
    else
        mount --bind "$from" ".$to"
        [ "$mode" = rw ] || mount -o remount,bind,ro ".$to"
    fi
done <<< "$BINDS"
echo "$user:x:$USER_ID:$USER_ID::$home:/bin/bash" >> etc/passwd
echo "$user:x:$USER_ID:" >> etc/group
echo "$user:*:19000:0:99999:7:::" >> etc/shadow # no password, but not locked: sshd refuses locked users
echo "$user ALL=(ALL) NOPASSWD:ALL" > etc/sudoers.d/90-cloud-init-users
chmod 440 etc/sudoers.d/90-cloud-init-users
printf '127.0.0.1 localhost\n%s %s\n%s\n' "$PRIVATE" "$name" "$HOSTS" > etc/hosts
echo 'nameserver 127.0.0.1' > etc/resolv.conf # refuses at once
# Without a network apt can install only what is there, so it must not know of newer versions.
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* var/lib/apt/lists/*
printf '%s\n' "$ENVIRONMENT" > etc/environment
for dot in .bashrc .profile .bash_logout; do [ -e "home/$user/$dot" ] || cp "etc/skel/$dot" "home/$user/"; done
mkdir -p "home/$user/.ssh"
[ -z "$AUTHORIZED_KEY" ] || printf '%s\n' "$AUTHORIZED_KEY" > "home/$user/.ssh/authorized_keys"
chmod 700 "home/$user/.ssh"
find "home/$user" -xdev -maxdepth 2 -writable -exec chown -h "$USER_ID:$USER_ID" {} +
hostname "$name"
mkdir -p run/old
pivot_root . run/old
cd /
umount -l run/old
rmdir run/old
mkdir -p /run/sshd
ssh-keygen -A > /dev/null
ulimit -n "$(ulimit -Hn)"
# boxes.py adds the network interface, then writes "go". The loop reaps orphans, as process 1 must.
exec env -i AT_BOOT="$AT_BOOT" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c '
    echo up
    read -r _go
    [ -z "$AT_BOOT" ] || bash -c "$AT_BOOT" &
    /usr/sbin/sshd -E /tmp/sshd.log
    trap "exit 0" TERM
    while :; do sleep 3600 & wait; done'
