#!/usr/bin/env python3
"""Breaks the ground under `weft train` in every way that a disk, a kernel or a hand on the keyboard can, and looks at what is left.

    run.py --short                     what CI does: 20 kills, one error at each system call; under a minute
    run.py                             all of it: 200 kills, every error at every call, 700 damaged checkpoints
    run.py --only kill --kills 1000    the faults whose name has "kill", for longer
    run.py --weft path/to/weft         another binary than target/release/weft, which is built otherwise

Each function below whose name stands in FAULTS is one fault and what was promised for it. Whatever happens to a run, in the end
its model files must have the bytes of a run that nothing happened to. One line is printed for each fault, with what was done
and counted. The first promise that is broken ends the program with exit code 1; it says how to see it again and keeps the
directory. Faults that need strace, mounts or another user are SKIPPED where those are not to be had.
"""

import argparse
import ctypes
import errno
import hashlib
import itertools
import os
import random
import re
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100  # seconds after which a command hangs, on a machine that does much else
MODEL = "--n-layer 1 --n-head 2 --n-embd 8 --batch-size 4 --dropout 0.1 --grad-accum 2 --seed 5".split()
# Much of a run that saves so often is saving: a kill at any moment is often one in a save.
LONG = [*MODEL, "--max-iters", "200", "--eval-interval", "4"]
# Three evaluations: the first save, one that makes a spare, and one that replaces the spare.
BRIEF = [*MODEL, "--max-iters", "6", "--eval-interval", "2", "--threads", "1"]
# The same with one more file to make and to remove at each.
KEEPING = [*BRIEF, "--keep", "1"]
FILES = ["last.safetensors", "previous.safetensors", "best.safetensors"]
# Every call that changes a file or a name, and those that open and close. A `?` is for calls that not every machine has.
CALLS = (
    "?open ?creat openat ?mkdir mkdirat write writev pwrite64 fsync fdatasync ?rename ?renameat renameat2 ?link linkat "
    "?unlink unlinkat ftruncate close"
).split()
# The calls that a signal can interrupt before anything was done.
INTERRUPTIBLE = {"open", "openat", "creat", "write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate"}
# Models whose need of memory is compared with the estimate.
ESTIMATED = [
    [],
    ["--n-layer", "1", "--n-embd", "16"],
    ["--n-layer", "6", "--n-embd", "256"],
    [ROOT / "data" / "shakespeare.txt"],
    [ROOT / "data" / "shakespeare.txt", "--n-layer", "2", "--n-embd", "256", "--block-size", "512"],
]
NO_CHECKPOINT_YET = "has no checkpoint yet"


class Broken(Exception):
    """A promise that was not kept."""


class Skipped(Exception):
    """What this machine lacks."""


def check(holds, promise, *seen):
    if not holds:
        raise Broken("\n".join([promise, *map(str, seen)]))


class Done:
    """How a command ended."""

    def __init__(self, command, code, out, err, seconds=0.0):
        self.command, self.code, self.out, self.err, self.seconds = command, code, out, err, seconds
        words = [word for word in ("panicked", "RUST_BACKTRACE", ".rs:") if word in err]
        check(not words and code not in (101, 134, -6, -11), "it never panics", self)

    def __str__(self):
        command = self.command if isinstance(self.command, str) else shlex.join(map(str, self.command))
        return f"{command}\nended with {self.code} and said:\n{self.err.strip()[-1500:]}"

    def ok(self):
        check(self.code == 0, "it ends with 0", self)
        return self

    def refused(self, *said, code=1, lines=3):
        """Ended with `code`, nothing on standard output, and a message of at most so many lines that has all of `said`."""
        check(self.code == code, f"it ends with {code}", self)
        errors = self.err[self.err.find("error:") :]
        check(errors.startswith("error:"), "there is a line that begins with `error:`", self)
        check(len(errors.splitlines()) <= lines, f"its message has at most {lines} lines", self)
        for words in said:
            check(str(words) in errors, f"its message says `{words}`", self)
        check(not self.out, "standard output stays empty", self)
        return self


class Place:
    """A directory with data, and the runs in it."""

    def __init__(self, args):
        self.weft, self.seed, self.short, self.n_kills = args.weft, args.seed, args.short, args.kills
        self.path = Path(tempfile.mkdtemp(prefix="weft-faults-", dir=args.dir)).resolve()
        self.names = self.path / "names.txt"
        names = (ROOT / "data" / "names.txt").read_bytes().splitlines(keepends=True)
        self.names.write_bytes(b"".join(names[:200]))
        self.env = {k: v for k, v in os.environ.items() if k not in ("WEFT_SIMD", "NO_COLOR")} | {"RUST_BACKTRACE": "1"}
        self.straight = {}
        self.numbers = itertools.count(1)

    def random(self):
        """The same numbers for a fault whichever others run before it."""
        return random.Random(self.seed)

    def new(self, name):
        """A run directory that is not there yet."""
        return self.path / f"{name}-{next(self.numbers)}"

    def start(self, words, before=(), **options):
        command = [*map(str, before), self.weft, *map(str, words)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(command, cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, text=True, **options)

    def end(self, child, began=None):
        """Waits for a command to end."""
        try:
            out, err = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            raise Broken(f"no command hangs, and this one does:\n{shlex.join(child.args)}") from None
        return Done(child.args, child.returncode, out or "", err or "", time.monotonic() - (began or time.monotonic()))

    def run(self, words, before=(), **options):
        began = time.monotonic()
        return self.end(self.start(words, before, **options), began)

    def train(self, run, settings, before=(), **options):
        return self.run(self.beginning(run, settings), before, **options)

    def beginning(self, run, settings):
        return ["train", self.names, "-o", run, "--quiet", *settings]

    def resume(self, run, *more, **options):
        return self.run(["train", "--resume", run, "--quiet", *more], **options)

    def go_on(self, run, settings, begun=None):
        """What a user does after a fault: resumes, or where not even the configuration was written yet, begins again."""
        if (run / "config.toml").exists():
            return self.resume(run)
        left = sorted(path.name for path in run.iterdir()) if run.exists() else []
        check(not set(left) & set(FILES), "no model file is without its configuration", left)
        return self.train(run, settings)

    def bytes_of(self, run):
        """What has to be the same in the end."""
        return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in ("last.safetensors", "best.safetensors")}

    def undisturbed(self, settings):
        """The bytes of a run that nothing happens to, and the seconds it takes."""
        key = tuple(settings)
        if key not in self.straight:
            run = self.new("straight")
            seconds = self.train(run, settings).ok().seconds
            self.straight[key] = (self.bytes_of(run), seconds, run)
        return self.straight[key]

    def copy(self, run, name):
        """A run directory like another."""
        copied = self.new(name)
        shutil.copytree(run, copied)
        return copied

    def same(self, run, settings, after=""):
        expected, found = self.undisturbed(settings)[0], self.bytes_of(run)
        different = [name for name in expected if expected[name] != found[name]]
        check(not different, f"the files of a run end with the same bytes, and {', '.join(different)} of {run} does not", after)

    def whole(self, run, after=""):
        """Every model file that is there can be read: its checksum is right."""
        for file in run.glob("*.safetensors"):
            done = self.run(["inspect", file])
            check(done.code == 0, f"{file.name} is the old file or the new one, whole", done, after)

    def wait_for(self, path, child):
        """Waits until a run has made a file."""
        began = time.monotonic()
        while not path.exists():
            check(child.poll() is None and time.monotonic() - began < PATIENCE, f"the run makes {path}", child.args)
            time.sleep(0.001)


def temporaries(run):
    return sorted(path.name for path in run.iterdir() if path.name.endswith(".tmp")) if run.exists() else []


def warnings(done, *expected):
    """Warnings of a command that are none of the expected."""
    lines = [line for line in done.err.splitlines() if "warning:" in line]
    return [line for line in lines if not any(words in line for words in expected)]


# ---- kill -9 ----


def kill_9_at_a_random_moment(place):
    rng, kills, in_save, before_first, ended = place.random(), 0, 0, 0, 0
    _, seconds, _ = place.undisturbed(LONG)
    while kills < place.n_kills:
        run, moments = place.new("killed"), []
        while True:
            words = ["train", "--resume", run, "--quiet"] if (run / "config.toml").exists() else place.beginning(run, LONG)
            moment = seconds * rng.random() ** 3  # soon after the start more often
            moments.append(round(moment, 4))
            child = place.start([*words, "--threads", rng.choice("12")])
            try:
                child.wait(moment)
            except subprocess.TimeoutExpired:
                child.kill()
            done = place.end(child)
            after = f"killed after these seconds, resumed each time: {moments}"
            check(done.code in (0, -9), "a run that was killed goes on by --resume alone", done, after)
            check(not warnings(done, NO_CHECKPOINT_YET), "a kill damages nothing", done, after)
            before_first += NO_CHECKPOINT_YET in done.err
            if done.code == 0:
                break
            kills += 1
            in_save += bool(temporaries(run))
        place.same(run, LONG, after)
        check(not temporaries(run), "no temporary is left", temporaries(run), after)
        ended += 1
        shutil.rmtree(run)
    return f"{kills} kills, {in_save} in a save, {before_first} before the first checkpoint; {ended} runs, all with the same bytes"


class Strace:
    """The system calls that a run makes on its directory, and runs in which one of them goes wrong."""

    def __init__(self, place):
        self.place = place
        if not shutil.which("strace"):
            raise Skipped("there is no strace")
        probe = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
        if probe.returncode != 0:
            raise Skipped(f"strace may not trace here: {probe.stderr.strip().splitlines()[-1:]}")
        self.run = place.new("traced")
        self.log = place.path / "strace.log"
        # Once to see which paths there are, and once more to see the calls as they are counted with these paths.
        self.paths = [self.run]
        lines = self.calls_of("%file")
        names = {name for line in lines for name in re.findall(r'"([^"]*)"', line) if Path(name).parent == self.run}
        self.paths = [self.run, *sorted(names)]
        counts = Counter()
        self.calls = []
        for line in self.calls_of(",".join(CALLS)):
            name = re.match(r"\d+ +(\w+)\(", line).group(1)
            counts[name] += 1
            self.calls.append((name, counts[name], line.split(maxsplit=1)[1]))
        check(len(self.calls) > 40, "a run makes more than 40 calls on its directory", *self.calls)

    def some(self):
        """All calls, or for the short form some: of many writes to one file, the first and the last; of all, each second."""
        if not self.place.short:
            return self.calls
        of = [(name, re.findall(r"<([^>]*)>", text)[:1] or text) for name, _, text in self.calls]
        inner = [before == this == after for before, this, after in zip([None, *of], of, [*of[1:], None])]
        return [call for call, is_inner in zip(self.calls, inner) if not is_inner][self.place.seed % 2 :: 2]

    def calls_of(self, which):
        """The calls of a run that nothing happens to."""
        shutil.rmtree(self.run, ignore_errors=True)
        trace = ["strace", "-f", "-qq", "-y", "-s", "300", "-o", self.log, "-e", f"trace={which}"]
        if len(self.paths) > 1:
            trace += self.only_paths()
        self.place.train(self.run, KEEPING, trace).ok()
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if str(self.run) in line and re.match(r"\d+ +\w+\(", line)]

    def only_paths(self):
        return [word for path in self.paths for word in ("-P", path)]

    def inject(self, name, what):
        """A new run in which calls of that name go wrong."""
        shutil.rmtree(self.run, ignore_errors=True)
        trace = ["strace", "-f", "-qq", "-o", self.log, *self.only_paths(), "-e", f"trace={name}", "-e", f"inject={name}:{what}"]
        return self.place.train(self.run, KEEPING, trace)

    def injected(self):
        return self.log.read_text(errors="replace").count("(INJECTED)")


def kill_9_at_each_system_call_of_a_save(place):
    strace = Strace(place)
    place.undisturbed(KEEPING)
    for name, k, text in strace.some():
        done = strace.inject(name, f"signal=SIGKILL:when={k}")
        after = f"killed at call {k} of {name}: {text[:200]}"
        check(done.code in (-9, 137), "strace kills it", done, after)
        place.whole(strace.run, after)
        done = place.go_on(strace.run, KEEPING)
        check(done.code == 0 and not warnings(done, NO_CHECKPOINT_YET), "it goes on", done, after)
        place.same(strace.run, KEEPING, after)
        check(not temporaries(strace.run), "no temporary is left", temporaries(strace.run), after)
    kinds = Counter(name for name, _, _ in strace.some())
    at = ", ".join(f"{n} {name}" for name, n in kinds.items())
    return f"{sum(kinds.values())} kills at {len(strace.calls)} calls ({at}); all with the same bytes"


# ---- errors of the disk ----


def no_space_quota_or_io_error_in_a_save(place):
    strace = Strace(place)
    errors = ["ENOSPC", "EDQUOT", "EIO"]
    n_injected = n_refused = n_harmless = 0
    for at, (name, k, text) in enumerate(strace.some()):
        # No kernel fails to close a directory, and Rust's library panics if one does.
        if name == "close" and f"<{strace.run}>" in text:
            continue
        # Once, and from then on always.
        ways = [(error, f"{k}{more}") for error in errors for more in ("", "+")]
        if place.short:
            ways = [ways[at % len(ways)]]
        for error, when in ways:
            done = strace.inject(name, f"error={error}:when={when}")
            after = f"{error} at calls {when} of {name}: {text[:200]}"
            check(strace.injected(), "strace injects it", done, after)
            n_injected += strace.injected()
            # No loss: a file that closes badly after it was synced, a spare that is not made, nothing that is not removed, and what
            # is only looked at.
            harmless = name == "close" or any(mark in text for mark in (".previous.", "ENOENT", "O_DIRECTORY"))
            if done.code == 0 and harmless:
                place.same(strace.run, KEEPING, after)
                n_harmless += 1
            else:
                check(done.code == 1, "it ends with 1", done, after)
                done.refused(os.strerror(getattr(errno, error)), lines=1)
                n_refused += 1
            if not (name.startswith("unlink") and "+" in when):
                check(not temporaries(strace.run), "no temporary is left", temporaries(strace.run), done, after)
            place.whole(strace.run, after)
            done = place.go_on(strace.run, KEEPING)
            check(done.code == 0 and not warnings(done, NO_CHECKPOINT_YET), "it goes on", done, after)
            place.same(strace.run, KEEPING, after)
    return f"{n_injected} errors at {len(strace.calls)} calls: {n_refused} refused in one line, {n_harmless} harmless; same bytes after a resume"


def an_interrupted_call_in_a_save(place):
    strace = Strace(place)
    calls = [call for call in strace.some() if call[0] in INTERRUPTIBLE]
    for name, k, text in calls:
        done = strace.inject(name, f"error=EINTR:when={k}")
        after = f"EINTR at call {k} of {name}: {text[:200]}"
        check(done.code == 0 and strace.injected() == 1, "an interrupted call is made again", done, after)
        place.same(strace.run, KEEPING, after)
    return f"{len(calls)} calls interrupted, each made again; same bytes"


def a_short_write_in_a_save(place):
    """A limit on the size of files: the write that crosses it is short, and the next one fails."""

    def limited(limit):
        def limit_file_size():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return limit_file_size

    largest = place.undisturbed(BRIEF)[2].joinpath("last.safetensors").stat().st_size
    rng = place.random()
    limits = [1, largest - 1, *(rng.randrange(1, largest) for _ in range(8 if place.short else 100))]
    for limit in limits:
        run, after = place.new("short"), f"no file may have more than {limit} bytes"
        place.train(run, BRIEF, preexec_fn=limited(limit)).refused(os.strerror(errno.EFBIG), lines=1)
        check(not temporaries(run), "no temporary is left", temporaries(run), after)
        place.whole(run, after)
        place.go_on(run, BRIEF).ok()
        place.same(run, BRIEF, after)
    return f"{len(limits)} saves cut off between byte 1 and {largest - 1}; same bytes after a resume"


class Mounts:
    """Mounts that only this process and its children see, and that end with it."""

    made = False

    def __init__(self):
        if Mounts.made:
            return
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Skipped("mounts need root, and Linux")
        new_namespace = 0x20000
        if ctypes.CDLL(None, use_errno=True).unshare(new_namespace) != 0:
            raise Skipped(f"no mounts of one's own here: {os.strerror(ctypes.get_errno())}")
        self.mount("--make-rprivate", "/")
        Mounts.made = True

    def mount(self, *words):
        done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Skipped(f"may not mount here: {done.stderr.strip()}")


def a_full_disk(place):
    mounts = Mounts()
    disk = place.new("disk")
    disk.mkdir()
    mounts.mount("-t", "tmpfs", "-o", "size=2m", "weft-faults", disk)
    run, filler, page = disk / "run", disk / "filler", os.sysconf("SC_PAGE_SIZE")

    def fill(pages_left):
        with open(filler, "wb", buffering=0) as file:
            size = 0
            try:
                while True:
                    size += file.write(b"x" * page)
            except OSError:
                file.truncate(max(0, size - pages_left * page))

    n_full, stopped_at = 0, Counter()
    for pages in range(0, 24, 3 if place.short else 1):
        for when in ("before", "amid"):
            shutil.rmtree(run, ignore_errors=True)
            filler.unlink(missing_ok=True)
            after = f"with {pages} pages left, filled {when} the run"
            if when == "before":
                fill(pages)
                done = place.train(run, LONG)
            else:
                child = place.start(place.beginning(run, LONG))
                place.wait_for(run / "last.safetensors", child)
                fill(pages)
                done = place.end(child)
            # With so many left, or so near its end, a run has room for all.
            if done.code != 0:
                if "on the disk of" in done.err:
                    # Seen before the first step: nothing is there yet.
                    done.refused("the run needs about", "are free")
                    check(not (run / "config.toml").exists(), "a run that cannot fit is not begun", done, after)
                    stopped_at["the plan"] += 1
                else:
                    done.refused(os.strerror(errno.ENOSPC), lines=1)
                    stopped_at[re.search(r"(\w+)(\.\w+)?`", done.err).group(1)] += 1
                n_full += 1
                check(not temporaries(run), "no temporary is left", temporaries(run), done, after)
                filler.unlink()
                place.whole(run, after)
                place.go_on(run, LONG).ok()
            place.same(run, LONG, after)
    subprocess.run(["umount", disk])
    check(n_full >= 5, "the disk is full at least five times")
    where = ", ".join(f"{n} at {name}" for name, n in sorted(stopped_at.items()))
    return f"a tmpfs full {n_full} times ({where}); same bytes after a resume"


# ---- damaged files ----


def damages(whole, rng, n_flips, n_truncations):
    """Copies of a file with a bit the other way or an end missing."""
    for _ in range(n_flips):
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        yield f"bit {bit} of byte {at} flipped", bytes(damaged)
    for _ in range(n_truncations):
        length = rng.randrange(len(whole))
        yield f"cut to {length} bytes", whole[:length]


def a_damaged_checkpoint(place):
    straight = place.undisturbed(BRIEF)[2]
    run, rng = place.copy(straight, "damaged"), place.random()
    n_flips, n_truncations = (25, 15) if place.short else (500, 200)
    last, previous = run / "last.safetensors", run / "previous.safetensors"
    spare = (straight / "previous.safetensors").read_bytes()
    for after, damaged in damages((straight / "last.safetensors").read_bytes(), rng, n_flips, n_truncations):
        last.unlink()
        last.write_bytes(damaged)
        previous.unlink()
        previous.write_bytes(spare)
        done = place.resume(run).ok()
        told = warnings(done)
        check(len(told) == 1 and "last.safetensors" in told[0], "damage is told in one warning", done, after)
        place.same(run, BRIEF, after)

    # While there is only one whole checkpoint, nothing may take its place but another whole one.
    limit = (last.stat().st_size // 2,) * 2
    for name in (last, previous):
        name.unlink()
    last.write_bytes(damaged)
    previous.write_bytes(spare)

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    failed = place.resume(run, preexec_fn=limit_file_size).refused(os.strerror(errno.EFBIG))
    done = place.resume(run)
    check(done.code == 0, "a save that fails after a fall back leaves the checkpoint that was fallen back to", failed, done)
    place.same(run, BRIEF)

    for path, whole in ((last, damaged), (previous, spare[:100])):
        path.unlink()
        path.write_bytes(whole)
    done = place.resume(run).refused("last.safetensors", "previous.safetensors")
    check(last.read_bytes() == damaged, "a run that cannot go on is never begun afresh", done)
    return f"{n_flips} flips and {n_truncations} truncations: each told, and the one before used; same bytes. Both damaged: refused"


def sizes_in_a_file_that_lie(place):
    straight = place.undisturbed(BRIEF)[2]
    whole = (straight / "last.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = whole[8 : 8 + length], whole[8 + length :]

    def lie(old, new):
        # Any first match will do: each number belongs to a shape or a place.
        changed = re.sub(old, new, header, count=1)
        check(changed != header, f"the header has {old}")
        return struct.pack("<Q", len(changed)) + changed + data

    huge = [2**32, 2**40, 2**63, 2**64 - 1]
    files = [struct.pack("<Q", n) + whole[8:] for n in [*huge, length + 1, length - 1, 8 << 20, (8 << 20) + 1]]
    files += [lie(rb'"shape":\[\d+', b'"shape":[%d' % n) for n in [*huge, 2**64]]
    files += [lie(rb'"data_offsets":\[\d+,\d+', b'"data_offsets":[%d,%d' % ends) for n in huge for ends in ((0, n), (n, n), (n, 0))]
    run, most = place.copy(straight, "lies"), 0
    for content in files:
        (run / "lie.safetensors").write_bytes(content)
        child = place.start(["inspect", run / "lie.safetensors"])
        out, err = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        Done(child.args, child.returncode, out, err).refused("lie.safetensors")
        most = max(most, usage.ru_maxrss)
    check(most < 100_000, "nothing large is allocated for a size that lies", f"{most} kB at the peak")
    return f"{len(files)} files refused, with {most / 1000:.0f} MB at the peak"


# ---- the run directory ----


def a_read_only_missing_or_deleted_run_directory(place):
    straight = place.undisturbed(BRIEF)[2]
    place.resume(place.path / "missing").refused("missing")
    (place.path / "file").write_bytes(b"")
    place.train(place.path / "file" / "run", BRIEF).refused("file/run")

    run = place.new("deleted")
    child = place.start(place.beginning(run, [*MODEL, "--max-iters", "1000000", "--eval-interval", "50"]))
    place.wait_for(run / "last.safetensors", child)
    # It may make one more file meanwhile.
    while run.exists():
        shutil.rmtree(run, ignore_errors=True)
    place.end(child).refused(run)
    done = ["missing, below a file, deleted amid a run"]

    run = place.copy(straight, "read-only")
    try:
        Mounts().mount("--bind", run, run)
        Mounts().mount("-o", "remount,ro,bind", run)
    except Skipped as reason:
        done.append(f"read-only mount SKIPPED: {reason}")
    else:
        place.resume(run).refused(run)
        place.train(run, [*BRIEF, "--force"]).refused(run)
        place.same(run, BRIEF)
        done.append("read-only mount")

    if os.geteuid() == 0 and shutil.which("setpriv"):
        run = place.copy(straight, "not-ours")
        place.path.chmod(0o755)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        place.resume(run, before=nobody).refused(run)
        place.train(place.new("new"), BRIEF, before=nobody).refused("new")
        place.same(run, BRIEF)
        done.append("another user's")
    return f"{', '.join(done)}: each refused by name"


def a_run_directory_that_already_holds_a_run(place):
    run = place.copy(place.undisturbed(BRIEF)[2], "taken")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    place.train(run, BRIEF).refused("--resume", "--force")
    after = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    check(before == after, "nothing is overwritten unasked", sorted(before), sorted(after))
    place.train(run, [*BRIEF, "--force"]).ok()
    place.same(run, BRIEF)
    return "refused without --resume or --force, and every file as it was"


def two_trainers_on_one_run_directory(place):
    run = place.new("shared")
    child = place.start(place.beginning(run, [*MODEL, "--max-iters", "1000000", "--eval-interval", "50"]))
    place.wait_for(run / "last.safetensors", child)
    slowest = 0.0
    for words in (["--resume", run], [place.names, "-o", run], [place.names, "-o", run, "--force"]):
        done = place.run(["train", *words, "--quiet"]).refused(f"process {child.pid}")
        slowest = max(slowest, done.seconds)
    check(slowest < 1, "the second is told within a second", f"{slowest:.2f} s")
    check(child.poll() is None, "the first goes on", child.args)
    child.kill()
    place.end(child)
    for left_over in (str(child.pid), "1", "4294967295 and more", ""):
        (run / ".lock").write_text(left_over)
        place.resume(run, "--max-time", "0.01").ok()
    return f"three ways of being second refused in {slowest:.2f} s at most, naming the first; left-over locks block nobody"


# ---- signals and streams ----


def ctrl_c_and_sigterm(place):
    rng = place.random()
    stops, early, seconds = Counter(), 0, place.undisturbed(LONG)[1]
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143}
    while sum(stops.values()) < (8 if place.short else 60):
        run, words = place.new("stopped"), None
        while True:
            words = ["train", "--resume", run] if words else ["train", place.names, "-o", run, *LONG]
            child = place.start([*words, "--threads", rng.choice("12")])
            place.wait_for(run / "metrics.jsonl", child)
            time.sleep(rng.uniform(0, seconds / 2))
            number = rng.choice(list(codes))
            child.send_signal(number)
            done = place.end(child)
            if done.code == -number:
                # A signal ends a run as it always does until training begins.
                check("stopped after" not in done.err, "it ends by the signal only before its first step", done)
                early += 1
                continue
            if "stopped after step" not in done.err:
                # The signal came when all was trained, if not when all was over.
                check(done.code in (0, codes[number]), "it ends with 130 or 143", done)
                break
            check(done.code == codes[number], f"it ends with {codes[number]}", done)
            stops[number.name] += 1
        place.same(run, LONG, done)
    # A step that takes many seconds: the first signal waits for its end, and a second one does not.
    run = place.new("twice")
    child = place.start(place.beginning(run, "--n-layer 2 --n-embd 128 --grad-accum 2000".split()))
    place.wait_for(run / "metrics.jsonl", child)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    time.sleep(0.2)
    check(child.poll() is None, "the first Ctrl-C waits for the end of the step", child.args)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    done = place.end(child, began)
    check(done.code == 130 and done.seconds < 3, "a second Ctrl-C ends at once", f"{done.seconds:.2f} s", done)
    counted = ", ".join(f"{n} {name}" for name, n in sorted(stops.items()))
    return f"{counted}, {early} before the first step: exit 130 or 143, same bytes after resumes; a second Ctrl-C after {done.seconds:.2f} s"


def standard_output_closed_or_full(place):
    run = place.new("closed")
    words = ["train", place.names, "-o", run, *BRIEF]
    pipe = f"{shlex.join([str(place.weft), *map(str, words)])} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], cwd=place.path, env=place.env, capture_output=True, text=True, timeout=PATIENCE)
    done = Done(pipe, done.returncode, done.stdout, done.stderr).ok()
    check(len(done.out.splitlines()) == 1 and "error" not in done.err, "`| head -1` shows one line", done)
    place.same(run, BRIEF)
    for words in (["sample", run, "-n", "2000"], ["eval", run], ["inspect", run], ["train", "--resume", run]):
        reader, writer = os.pipe()
        os.close(reader)
        done = place.run(words, stdout=writer).ok()
        os.close(writer)
        check("error" not in done.err, "a reader that has gone away is no error", done)
        with open("/dev/full", "w") as full:
            place.run([*words, "--quiet"], stdout=full).refused(os.strerror(errno.ENOSPC), lines=1)
            place.run(words, stderr=full).ok()
    place.same(run, BRIEF)
    return "closed: ends quietly; full: one line and exit 1; standard error full: no matter; for train, sample, eval and inspect"


# ---- what a run depends on ----


def a_data_file_deleted_truncated_or_changed(place):
    whole = place.names.read_bytes()
    own = place.path / "own.txt"
    changes = {
        "deleted": lambda: own.unlink(),
        "truncated": lambda: os.truncate(own, 500),
        "emptied": lambda: os.truncate(own, 0),
        "changed": lambda: own.write_bytes(whole.replace(b"a", b"e", 1)),
    }
    for name, change in changes.items():
        own.write_bytes(whole)
        run = place.new(name)
        child = place.start(["train", own, "-o", run, "--quiet", *LONG])
        place.wait_for(run / "metrics.jsonl", child)
        change()
        place.end(child).ok()
        place.same(run, LONG, f"the data were {name} amid the run")

        own.write_bytes(whole)
        run = place.new(name)
        place.run(["train", own, "-o", run, "--quiet", *LONG, "--max-time", "0.1"]).ok()
        change()
        stopped = (run / "last.safetensors").read_bytes()
        place.resume(run, "--max-time", "0").refused("own.txt")
        check(stopped == (run / "last.safetensors").read_bytes(), "what is refused changes nothing")
        own.write_bytes(whole)
        place.resume(run, "--max-time", "0").ok()
        expected, found = place.undisturbed(LONG)[0], place.bytes_of(run)
        check(expected["last.safetensors"] == found["last.safetensors"], "with its data again, it is the same run", run)
    place.names.write_bytes(whole)
    own.write_bytes(whole + b"quux\n")
    place.resume(run, "--max-iters", "210").refused("--force")
    place.resume(run, "--max-iters", "210", "--force").ok()
    return f"{', '.join(changes)}: no matter once read, refused by a resume, accepted with --force"


def a_configuration_that_disagrees_with_the_checkpoint(place):
    run = place.copy(place.undisturbed(BRIEF)[2], "disagrees")
    cases = {"n_layer": (3, 1), "n_embd": (16, 8), "seed": (6, 5), "dropout": (0.2, 0.1), "learning_rate": (0.5, 0.004)}
    config = run / "config.toml"
    stored = config.read_text()
    for key, (here, there) in cases.items():
        place.resume(run, f"--{key.replace('_', '-')}", here).refused(f"{key} is {here}", f"{there} in the run", code=2)
        config.write_text(re.sub(rf"(?m)^{key} = .*$", f"{key} = {here}", stored))
        check(config.read_text() != stored, f"the configuration has {key}")
        place.resume(run).refused(f"{key} is {here}", f"{there} in the run", code=2)
        config.write_text(stored)
    place.resume(run).ok()
    place.same(run, BRIEF)
    return f"{len(cases)} settings, by flag and in config.toml: exit 2 with both values"


def a_loss_that_is_not_finite(place):
    run = place.new("diverged")
    # The learning rate rises with each step until the weights leave the numbers, after a few that are saved.
    rising = "--optimizer sgd --lr 100 --grad-clip 0 --warmup-iters 50 --max-iters 60 --eval-interval 1".split()
    done = place.train(run, [*MODEL, *rising]).refused("loss", "gradient norm", "wte.weight")
    step = int(re.search(r"error: step (\d+)", done.err).group(1))
    check(len(warnings(done, "the update is left out")) == 0 and done.err.count("warning:") == 2, "two steps are left out before", done)
    place.whole(run)
    last = (run / "last.safetensors").read_bytes()
    again = place.resume(run).refused(f"step {step}")
    check(last == (run / "last.safetensors").read_bytes(), "the last good checkpoint is kept", again)
    return f"step {step} is the third in a row, exit 1 with its loss, norm and first parameter; the checkpoint from before is kept"


def too_little_memory(place):
    words = ["train", place.names, "-o", place.new("large"), "--n-layer", "1000", "--n-embd", "65536", "--n-head", "2"]
    done = place.run([*words, "--quiet"]).refused("GB of memory")
    check(done.seconds < 5, "it is refused before any work", f"{done.seconds:.1f} s", done)
    errors = []
    for settings in ESTIMATED[:2] if place.short else ESTIMATED:
        words = ["train", *settings, "--max-iters", "20", "--eval-interval", "20", "-o", place.new("estimated")]
        child = place.start(words, stdout=subprocess.DEVNULL)
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        check(child.returncode == 0, "it trains", said)
        number, unit = re.search(r"needs ([\d.]+) ([kMG]B) of memory", said).groups()
        needed = float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
        errors.append(needed / (used.ru_maxrss * 1024) - 1)
    seen = ", ".join(f"{error:+.0%}" for error in errors)
    check(all(abs(error) <= 0.2 for error in errors), "the estimate is within 20 % of the peak", seen)
    return f"{done.err.splitlines()[0].removeprefix('error: ')}; estimates against peaks: {seen}"


FAULTS = [
    kill_9_at_a_random_moment,
    kill_9_at_each_system_call_of_a_save,
    no_space_quota_or_io_error_in_a_save,
    an_interrupted_call_in_a_save,
    a_short_write_in_a_save,
    a_full_disk,
    a_damaged_checkpoint,
    sizes_in_a_file_that_lie,
    a_read_only_missing_or_deleted_run_directory,
    a_run_directory_that_already_holds_a_run,
    two_trainers_on_one_run_directory,
    ctrl_c_and_sigterm,
    standard_output_closed_or_full,
    a_data_file_deleted_truncated_or_changed,
    a_configuration_that_disagrees_with_the_checkpoint,
    a_loss_that_is_not_finite,
    too_little_memory,
]


def built():
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "weft-cli"], cwd=ROOT, check=True)
    return ROOT / "target" / "release" / "weft"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weft", type=lambda path: Path(path).resolve(), help="the binary [default: target/release/weft, built]")
    parser.add_argument("--short", action="store_true", help="20 kills, and the rest thinned out")
    parser.add_argument("--kills", type=int, metavar="N", help="kills at random moments, at least [default: 200, or 20]")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what moments and damages follow from [default: 1]")
    parser.add_argument("--only", default="", metavar="WORD", help="faults with this in their name")
    parser.add_argument("--dir", metavar="DIR", help="where to work [default: a temporary directory]")
    args = parser.parse_args()
    args.kills = args.kills or (20 if args.short else 200)
    args.weft = args.weft or built()
    faults = [fault for fault in FAULTS if args.only in fault.__name__]
    if not faults:
        parser.error(f"no fault has `{args.only}` in its name; there are:\n  " + "\n  ".join(f.__name__ for f in FAULTS))
    place = Place(args)
    began = time.monotonic()
    for fault in faults:
        name, start = fault.__name__.replace("_", " "), time.monotonic()
        try:
            seen = fault(place)
            line = f"ok       {time.monotonic() - start:6.1f} s  {name}: {seen}"
        except Skipped as reason:
            line = f"SKIPPED           {name}: {reason}"
        except Broken as broken:
            print(f"BROKEN            {name}: {broken}", file=sys.stderr)
            form = "--short " if args.short else ""
            again = f"{Path(__file__).name} {form}--seed {args.seed} --kills {args.kills} --only {fault.__name__}"
            print(f"\nto see it again: {again} --weft {args.weft}\nwhat is left: {place.path}", file=sys.stderr)
            return 1
        print(line, flush=True)
    shutil.rmtree(place.path, ignore_errors=True)
    print(f"{len(faults)} faults in {time.monotonic() - began:.0f} s, seed {args.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
