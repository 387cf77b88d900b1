"""A Slurm of one node, of Debian's packages, runs the scripts of the documentation.

Usage, as root: slurm.py TOOL        (apt install slurm-wlm slurm-wlm-basic-plugins libpmix-dev openmpi-bin)
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from fences import block
from serving import Checks, free_port

check = Checks()
root = pathlib.Path(__file__).parents[2]
prompts = ["red apple", "blue heart", "grinning face", "yellow star"]


class Slurm:
    """slurmctld and slurmd in a folder of their own, until the end of the `with`."""

    def __init__(self, folder, path):
        self.folder = folder
        name = socket.gethostname().split(".")[0]
        # Nobody else is on this machine's loopback who would have to prove who they are.
        (folder / "slurm.conf").write_text(f"""
ClusterName=one
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=2
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
NodeName={name} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes={name} Default=YES MaxTime=INFINITE State=UP
""")
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        self.environment = {
            **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{path}:{os.environ['PATH']}",
            # For training's ranks: root may, and on fewer cores.
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.daemons = [subprocess.Popen(
            [program, "-D"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for program in ("/usr/sbin/slurmctld", "/usr/sbin/slurmd")]

    def __enter__(self):
        for _ in range(100):
            state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=self.environment, capture_output=True, text=True)
            if state.stdout.strip() in ("idle", "mix"):
                return self
            time.sleep(0.2)
        self.__exit__()
        raise RuntimeError("Slurm does not start: " + (self.folder / "slurmctld.log").read_text()[-2000:])

    def __exit__(self, *_):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def run(self, *command, cwd=None):
        return subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=True).stdout

    def submit(self, script, folder, name):
        (folder / name).write_text(script)
        return self.run("sbatch", "--parsable", name, cwd=folder).strip()

    def left(self, job):
        out = subprocess.run(["squeue", "-h", "-j", job], env=self.environment, capture_output=True, text=True).stdout
        return out.strip()

    def wait(self, job, seconds=300):
        end = time.monotonic() + seconds
        while self.left(job):
            if time.monotonic() > end:
                raise RuntimeError(f"job {job} does not end: {self.left(job)}")
            time.sleep(0.3)


def lines(folder):
    files = sorted(folder.glob("pictures-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def same(a, b):
    names = sorted(path.name for path in a.iterdir())
    return names == sorted(path.name for path in b.iterdir()) and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in names), names


def logs(folder):
    return "".join(path.read_text()[-300:] for path in sorted(folder.glob("*.log")))


def workplace(folder, name):
    place = folder / name
    place.mkdir()
    (place / "prompts.txt").write_text("\n".join(prompts) + "\n")
    return place


def array(slurm, tool, folder, steps):
    """The page's script, with so many steps on the CPU backend; and the folder of one process's pictures."""
    script = block("ManyMachines.md", "#SBATCH --array")
    settings = f"--device cpu --quiet --steps {steps}"
    script = script.replace("langevin generate", "langevin generate " + settings)
    whole = workplace(folder, f"whole-{steps}")
    subprocess.run(
        [tool, "generate", *settings.split(), "--prompt-file", "prompts.txt", "--count", "4", "--seed", "1", "--output",
         "pictures/p.png"], cwd=whole, check=True, stdout=subprocess.DEVNULL)
    return script, whole / "pictures"


def four_tasks(slurm, tool, folder):
    script, whole = array(slurm, tool, folder, 4)
    place = workplace(folder, "array")
    slurm.wait(slurm.submit(script, place, "pictures.sh"))
    check("an array of four draws the pictures of one process", *same(place / "pictures", whole))
    drawn = lines(place)
    check("each task has four of sixteen", [len(path.read_text().splitlines()) for path in sorted(
        place.glob("pictures-*.jsonl"))] == [4, 4, 4, 4], logs(place))
    check("each picture is drawn once", sorted(line["file"] for line in drawn) == [
        f"pictures/p-{number:02}.png" for number in range(16)] and all(line["drawn"] for line in drawn))
    slurm.wait(slurm.submit(script.replace("0-3", "0-2"), place, "again.sh"))
    later = lines(place)[len(drawn):] if len(lines(place)) > len(drawn) else []
    check("another array over it finds all there", len(lines(place)) == 32 and sum(
        line["drawn"] for line in lines(place)) == 16, len(later))


def requeued(slurm, tool, folder):
    script, whole = array(slurm, tool, folder, 60)
    place = workplace(folder, "requeued")
    job = slurm.submit(script, place, "pictures.sh")
    first = place / "pictures-0.jsonl"
    for _ in range(2000):
        if first.exists() and first.read_text().count("\n") >= 1:
            break
        time.sleep(0.02)
    slurm.run("scontrol", "requeue", f"{job}_0")
    time.sleep(0.5)
    before = {path.name: path.stat().st_mtime_ns for path in (place / "pictures").glob("p-*.png")}
    check("a task is requeued in mid-run", 1 <= len(before) < 16 and slurm.left(f"{job}_0") != "", sorted(before))
    # It would wait for two minutes otherwise.
    for _ in range(100):
        if slurm.run("squeue", "-h", "-j", f"{job}_0", "-o", "%t").strip() == "PD":
            slurm.run("scontrol", "update", f"job={job}_0", "StartTime=now")
            break
        time.sleep(0.2)
    slurm.wait(job)
    check("nothing is lost", *same(place / "pictures", whole))
    after = {name: (place / "pictures" / name).stat().st_mtime_ns for name in before}
    check("nothing that was there is drawn again", after == before)
    listed = lines(place)
    drawn = [line["file"] for line in listed if line["drawn"]]
    check("no picture is drawn twice", len(drawn) == len(set(drawn)) and {line["file"] for line in listed} == {
        f"pictures/p-{number:02}.png" for number in range(16)}, (len(drawn), len(listed), logs(place)))
    check("the second run of the task found some", any(not line["drawn"] for line in listed))


def training(slurm, tool, folder):
    place = workplace(folder, "training")
    data = place / "data"
    data.mkdir()
    for number, picture in enumerate(sorted((folder / "whole-4" / "pictures").iterdir())[:8]):
        shutil.copy(picture, data / f"{number}.png")
        (data / f"{number}.txt").write_text(prompts[number // 4])
    model = root / "Tests/Golden/Fixtures/tiny-sd"
    (place / "train.json").write_text(json.dumps({
        "task": "diffusion", "model": str(model), "steps": 6, "batch": 4, "sample_every": 0}))
    script = block("ManyMachines.md", "#SBATCH --ntasks").replace(
        "langevin train diffusion", "langevin train diffusion --device cpu")
    ranks = "#!/bin/sh\n#SBATCH --ntasks=2\n#SBATCH --output=ranks.log\nsrun --mpi=pmix langevin ranks\n"
    job = slurm.submit(ranks, place, "ranks.sh")
    slurm.wait(job)
    check("srun starts ranks that find each other", "rank 1 of 2: right" in (place / "ranks.log").read_text(), logs(place))
    slurm.wait(slurm.submit(script, place, "training.sh"))
    log = place / "run/log.jsonl"
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []
    check("training by MPI under Slurm", steps[-1:] == [6], (steps, logs(place)))
    check("on two ranks", "2 ranks" in logs(place), logs(place))


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "bin").mkdir()
        (folder / "bin/langevin").symlink_to(tool)
        (folder / "slurm").mkdir()
        with Slurm(folder / "slurm", folder / "bin") as slurm:
            four_tasks(slurm, tool, folder)
            requeued(slurm, tool, folder)
            training(slurm, tool, folder)
    print(f"{time.monotonic() - began:.0f} s")
    return check.report()


if __name__ == "__main__":
    sys.exit(main())
