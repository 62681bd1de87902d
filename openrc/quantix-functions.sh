# shellcheck shell=sh
# What the boot scripts, node-run and qx-console share. Installed as /usr/lib/quantix/functions.sh and sourced, never run.
# Only tools that BusyBox and coreutils both have, because none of this may need the agent's binary.
#
# QX_ROOT  prefix of every host path; empty on a real host. While it is set nothing here reboots the machine.
#
# Functions with ( ) bodies run in a subshell: that is how POSIX sh keeps variables private.

QX_ROOT=${QX_ROOT-}
QX_RUN=$QX_ROOT/run/quantix
QX_LIB=$QX_ROOT/usr/lib/quantix
export LC_ALL=C

qx_log() {
  printf 'quantix: %s\n' "$*" >&2
  [ ! -w "$QX_ROOT/dev/kmsg" ] || printf '<5>quantix: %s\n' "$*" 2>/dev/null >>"$QX_ROOT/dev/kmsg" || :
}

# qx_cmdline NAME: the value of quantix.NAME= on the kernel command line. The last one counts, as for the kernel itself,
# so an operator can append one by qx_extra.
qx_cmdline() {
  { tr ' ' '\n' <"$QX_ROOT/proc/cmdline"; } 2>/dev/null | sed -n "s/^quantix\\.$1=//p" | tail -n 1
}

qx_safe_mode() {
  { tr ' ' '\n' <"$QX_ROOT/proc/cmdline"; } 2>/dev/null | grep -qFx quantix.safe
}

# Prints the trial id of this boot; fails on an ordinary boot. Anything but a well-formed id is not ours.
qx_trial() (
  id=$(qx_cmdline trial)
  case $id in '' | *[!a-z0-9]*) exit 1 ;; esac
  [ ${#id} -ge 8 ] && [ ${#id} -le 32 ] || exit 1
  printf '%s\n' "$id"
)

# /run/quantix is readable by all, whatever umask the caller has: names in it are no secret, the socket has its own mode.
qx_make_run() {
  mkdir -p "$QX_RUN/bin" "$QX_RUN/share" && chmod 755 "$QX_RUN" "$QX_RUN/bin" "$QX_RUN/share"
}

# qx_put FILE TEXT: written beside, flushed, renamed, folder flushed. A power cut leaves the old text or the new one, and a
# full or read-only disk leaves the old one and a failure.
qx_put() (
  beside=$1.qx-new
  if printf '%s\n' "$2" | dd of="$beside" conv=fsync 2>/dev/null && [ "$(cat "$beside")" = "$2" ]; then
    mv -f "$beside" "$1" && sync "${1%/*}"
  else
    rm -f "$beside" 2>/dev/null
    exit 1
  fi
)

# qx_note_try TRIAL WHAT: what became of a boot of this trial, for the agent of the slot that runs afterwards. Lines of earlier
# trials go. Nothing is noted where there is no place for it, and that is no failure: the agent then knows less.
qx_note_try() (
  tries=$QX_ROOT/quantix/limiquantix/tries
  [ -d "${tries%/*}" ] || exit 0
  before=$(grep "^$1 " "$tries" 2>/dev/null | tail -n 20)
  qx_put "$tries" "${before:+$before
}$1 $2" || qx_log "could not note in $tries that trial $1 $2"
)

# --- processes of this machine, QX_ROOT or not -------------------------------------------------------------------------

# qx_stat PID FIELD: a field of /proc/PID/stat from the third on, counted as proc(5) does; fails when there is no such process.
# The second field is the program's name, which may hold anything, a space and a parenthesis too.
qx_stat() (
  field=$2
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || exit 1
  # shellcheck disable=SC2086
  set -- ${line##*) }
  shift $((field - 3)) && printf '%s\n' "$1"
)

# qx_start_ticks PID: when it was started, in ticks since the boot. With it a number names one process for ever.
qx_start_ticks() { qx_stat "$1" 22; }

# qx_uptime_s: for durations; the wall clock may jump by years.
qx_uptime_s() (
  read -r seconds rest </proc/uptime && printf '%s\n' "${seconds%%.*}"
)

# --- versions -------------------------------------------------------------------------------------------------------

# The grammar of format/version.ts: bounded, so that no number outgrows awk and no name outgrows a folder.
qx_is_version() (
  part='(0|[1-9][0-9]{0,8})'
  word='(0|[1-9][0-9]{0,14}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)'
  build='[0-9a-zA-Z-]+'
  [ ${#1} -le 64 ] && printf '%s\n' "$1" |
    grep -Eqx "$part\\.$part\\.$part(-$word(\\.$word)*)?(\\+$build(\\.$build)*)?"
)

# qx_version_in FILE: the version a NAME.version file holds; fails when there is none or it is not a version.
qx_version_in() (
  [ -r "$1" ] || exit 1
  read -r text <"$1" || [ -n "$text" ] || exit 1
  qx_is_version "$text" && printf '%s\n' "$text"
)

# qx_newer A B: true when version A has precedence over B by semver 2.0.0 (a prerelease comes before its release, numeric
# parts compare as numbers, build metadata does not count).
qx_newer() {
  awk -v a="$1" -v b="$2" '
    function part(x, y) {
      if (x ~ /^[0-9]+$/ && y ~ /^[0-9]+$/) return x + 0 == y + 0 ? 0 : (x + 0 > y + 0 ? 1 : -1)
      if (x ~ /^[0-9]+$/) return -1
      if (y ~ /^[0-9]+$/) return 1
      return x "" == y "" ? 0 : (x "" > y "" ? 1 : -1)
    }
    function list(x, y,    xs, ys, xn, yn, i, order) {
      xn = split(x, xs, "."); yn = split(y, ys, ".")
      for (i = 1; i <= xn && i <= yn; i++) if ((order = part(xs[i], ys[i])) != 0) return order
      return xn - yn
    }
    function release(v) { sub(/-.*/, "", v); return v }
    function prerelease(v) { return index(v, "-") ? substr(v, index(v, "-") + 1) : "" }
    BEGIN {
      sub(/\+.*/, "", a); sub(/\+.*/, "", b)
      order = list(release(a), release(b))
      if (order == 0) {
        pa = prerelease(a); pb = prerelease(b)
        order = pa == pb ? 0 : (pa == "" ? 1 : (pb == "" ? -1 : list(pa, pb)))
      }
      exit order > 0 ? 0 : 1
    }'
}

# qx_bad NAME VERSION: true when this version of the component was given up on before.
qx_bad() {
  grep -qFx -e "$2" "$QX_ROOT/data/versions/$1.bad" 2>/dev/null
}

# --- the choice between the image's own component and the one in /data ------------------------------------------------

# NAME -> where the component lives, relative to /data and to the image.
qx_data_path() {
  case $1 in host-ui) echo "$QX_ROOT/data/share/quantix-host-ui" ;; *) echo "$QX_ROOT/data/bin/$1" ;; esac
}
qx_own_path() {
  case $1 in host-ui) echo "$QX_ROOT/usr/share/quantix-host-ui" ;; *) echo "$QX_LIB/bin/$1" ;; esac
}

# qx_usable PATH: a folder with a page, or an executable that starts like one. Without the look at its first bytes the
# shell's exec would run what the kernel refuses (a stump, a program for another machine) as if it were a script.
qx_usable() (
  [ -f "$1/index.html" ] && exit 0
  [ -f "$1" ] && [ -x "$1" ] && [ -s "$1" ] || exit 1
  case $(head -c 4 "$1" | tr -d '\000') in
    '#!'*) exit 0 ;;
    "$(printf '\177ELF')") [ "$(head -c 4096 "$1" | wc -c)" -eq 4096 ] && [ "$(qx_machine "$1")" = "$(qx_machine /proc/self/exe)" ] ;;
    *) exit 1 ;;
  esac
)

# qx_machine FILE: stands for the word size, byte order and processor that an ELF file is for.
qx_machine() {
  { head -c 6 "$1" | tail -c 2 && head -c 20 "$1" | tail -c 2; } | tr '\000-\037' '@-_'
}

# qx_own_version NAME: the image was built as one, so the image's version stands in for a component's missing one.
qx_own_version() {
  qx_version_in "$QX_ROOT/usr/share/quantix/versions/$1.version" || qx_version_in "$QX_ROOT/etc/quantix-version"
}

# qx_refusal NAME: prints why /data's copy is not used; fails (prints nothing) when it is the one to use.
qx_refusal() (
  if qx_safe_mode; then echo 'quantix.safe is on the kernel command line' && exit 0; fi
  qx_usable "$(qx_data_path "$1")" || { echo '/data has none that could run' && exit 0; }
  qx_version_refusal "$1"
)

# qx_version_refusal NAME: the same, only about the version that /data names.
qx_version_refusal() (
  there=$(qx_version_in "$QX_ROOT/data/versions/$1.version") || { echo "/data does not say which version its $1 is" && exit 0; }
  if qx_bad "$1" "$there"; then echo "$there in /data is marked bad" && exit 0; fi
  qx_usable "$(qx_own_path "$1")" || exit 1
  own=$(qx_own_version "$1") || { echo "the image's own has no version to compare with" && exit 0; }
  if qx_newer "$there" "$own"; then exit 1; fi
  echo "$there in /data is not newer than the image's own $own"
)

# qx_choice NAME: prints the path to use. The image's own when in doubt: it was verified together with its kernel.
qx_choice() {
  if qx_refusal "$1" >/dev/null; then qx_own_path "$1"; else qx_data_path "$1"; fi
}

# qx_point LINK TARGET: replaced by rename, so nobody ever finds the name missing.
qx_point() {
  rm -rf "$1.qx-new" && ln -s "$2" "$1.qx-new" && mv -fT "$1.qx-new" "$1"
}

# qx_point_names EXECUTABLE: one executable has five names.
qx_point_names() {
  for qx_name in qx-node qx-update qx-update-server qx-release qx-fleet; do
    qx_point "$QX_RUN/bin/$qx_name" "$1" || return 1
  done
}

# --- the GRUB environment ---------------------------------------------------------------------------------------------

QX_ENV_SIZE_BYTES=4096
QX_ENV_MAX_BYTES=65536

# qx_env_value FILE NAME
qx_env_value() {
  sed -n "s/^$2=//p" "$1"
}

# qx_env_seal FILE: what quantix_seal has to be, from the values that FILE holds.
qx_env_seal() (
  joined=
  for name in order a_ok b_ok a_tries b_tries trial failed; do
    joined="$joined${joined:+|}$(qx_env_value "$1" "quantix_$name")"
  done
  printf '%s\n' "$joined"
)

# qx_env_valid FILE: a block as we write it: full size and no NUL, the header, each of our variables once with a value it can
# have, nothing but variables and padding, and the seal over all values (a half-written block keeps its header). Stricter
# than GRUB, because what passes here is copied.
qx_env_valid() (
  [ -f "$1" ] && [ -r "$1" ] || exit 1
  size=$(wc -c <"$1")
  [ "$size" -ge "$QX_ENV_SIZE_BYTES" ] && [ "$size" -le "$QX_ENV_MAX_BYTES" ] || exit 1
  [ "$(tr -d '\000' <"$1" | wc -c)" -eq "$size" ] || exit 1
  [ "$(head -n 1 "$1")" = '# GRUB Environment Block' ] || exit 1
  [ -z "$(sed -e 1d -e '/^[A-Za-z0-9_.-]*=/d' -e '/^##*$/d' "$1")" ] || exit 1
  id='\([a-z0-9]\{8,32\}\)\{0,1\}'
  for line in 'order=\(A B\|B A\)' 'a_ok=[01]' 'b_ok=[01]' 'a_tries=[0-3]' 'b_tries=[0-3]' "trial=$id" "failed=$id"; do
    [ "$(grep -c "^quantix_${line%%=*}=" "$1")" -eq 1 ] && grep -q "^quantix_$line\$" "$1" || exit 1
  done
  [ "$(grep -c '^quantix_seal=' "$1")" -eq 1 ] && [ "$(qx_env_value "$1" quantix_seal)" = "$(qx_env_seal "$1")" ]
)

# --- rebooting --------------------------------------------------------------------------------------------------------

# qx_seconds NAME DEFAULT [SERVICE]: a whole number from the settings. Read with sed and not sourced: a slip in a settings
# file must not be able to stop the script that arms the deadline.
qx_seconds() (
  seconds=$2
  for file in "$QX_ROOT/etc/conf.d/${3-quantix-boot}" "$QX_ROOT/quantix/limiquantix/${3-quantix-boot}"; do
    [ -r "$file" ] || continue
    value=$(sed -n "s/^[[:space:]]*$1=[\"']\{0,1\}\([0-9]\{1,5\}\)[\"']\{0,1\}[[:space:]]*\(#.*\)\{0,1\}\$/\1/p" "$file" | tail -n 1)
    [ "${value:-0}" -eq 0 ] || seconds=$value
  done
  printf '%s\n' "$seconds"
)
qx_deadline_s() { qx_seconds deadline_s 600; }

# qx_leave_service: what has to outlive the service that started it leaves its control group, of which OpenRC ends all processes
# where rc_cgroup_cleanup says so.
qx_leave_service() {
  for qx_group in '' /unified /openrc; do
    [ ! -w "$QX_ROOT/sys/fs/cgroup$qx_group/cgroup.procs" ] || echo $$ 2>/dev/null >"$QX_ROOT/sys/fs/cgroup$qx_group/cgroup.procs" || :
  done
}

# qx_hold_openrc: whoever stops the services would give up at SIGTERM, and init would then kill everything a second later, with
# the disks mounted: neither guests nor disks would have their time.
qx_hold_openrc() {
  for qx_comm in /proc/[0-9]*/comm; do
    qx_name=
    { read -r qx_name <"$qx_comm"; } 2>/dev/null || :
    case $qx_name in openrc | rc) ;; *) continue ;; esac
    qx_pid=${qx_comm#/proc/} qx_pid=${qx_pid%/comm}
    while [ "${qx_pid:-1}" -gt 1 ]; do
      kill -s STOP "$qx_pid" || break
      qx_pid=$(qx_stat "$qx_pid" 4)
    done
  done
}

# qx_is_writable: some file system on a disk is. By the shell alone: a program may be on the disk that is dead.
qx_is_writable() {
  while read -r qx_device _ _ qx_options _; do
    case $qx_device:$qx_options in /dev/*:rw*) return 0 ;; esac
  done </proc/mounts
  return 1
}

# qx_reboot_hard: by the kernel, for nobody else may be able to. Guests first, who write down what they hold when they are asked to
# end, then the disks, for at most disks_s, which whoever calls this has read in good time; a dead disk never ends.
qx_reboot_hard() {
  [ -z "$QX_ROOT" ] || { : >"$QX_RUN/hard-reboot"; return 0; }
  trap '' TERM
  qx_hold_openrc
  kill -s TERM -1
  sleep 5
  echo s >/proc/sysrq-trigger
  sleep 2
  echo u >/proc/sysrq-trigger
  qx_waited=0
  while [ "$qx_waited" -lt "${disks_s:-30}" ] && sleep 2 && qx_is_writable; do qx_waited=$((qx_waited + 2)); done
  echo b >/proc/sysrq-trigger
  reboot -f
}

# qx_arm_deadline TRIAL: once per boot, in a process of its own session, so that neither a hanging script nor the end of the
# service that ran it takes the deadline along.
qx_arm_deadline() {
  [ ! -e "$QX_RUN/confirmed" ] || return 0
  if [ -s "$QX_RUN/deadline.pid" ] && kill -0 "$(cat "$QX_RUN/deadline.pid")" 2>/dev/null; then return 0; fi
  QX_ROOT="$QX_ROOT" setsid /bin/sh "$QX_LIB/deadline" "$1" </dev/null >/dev/null 2>&1 &
  printf '%s\n' "$!" >"$QX_RUN/deadline.pid"
  qx_log "trial $1: reboot in $(qx_deadline_s) s unless it is confirmed"
}
