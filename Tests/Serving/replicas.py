"""Replicas behind HAProxy and nginx, and a replica that is drained: with the lines of the documentation.

Usage: replicas.py TOOL        (apt install haproxy nginx-light systemd)
"""

import base64
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from fences import block
from serving import Checks, Server, free_port

check = Checks()


def post(address, body, timeout=120, headers=None):
    """The status and the JSON or text of the answer."""
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        return 0, repr(error)


def health(server):
    try:
        return 200, json.loads(server.get("/health"))
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (urllib.error.URLError, ConnectionError):
        return 0, {}


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def kill_at_once(server):
    """The server and the process that draws, as when a machine goes away."""
    pids = [server.process.pid]
    for path in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/children"):
        pids += [int(pid) for pid in path.read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.process.wait()


class HAProxy:
    """With the page's lines and these replicas."""

    def __init__(self, folder, replicas):
        self.port = free_port()
        text = block("ManyMachines.md", "frontend langevin").replace("127.0.0.1:7870", f"127.0.0.1:{self.port}")
        for port, replica in zip((7861, 7862), replicas):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{replica.port}")
        text = text.replace("global\n", "global\n    log stdout format raw local0\n")
        text = text.replace("defaults\n", "defaults\n    log global\n    option httplog\n")
        path = folder / "haproxy.cfg"
        path.write_text(text)
        run = subprocess.run(["/usr/sbin/haproxy", "-c", "-f", path], capture_output=True, text=True)
        check("haproxy -c takes the lines", run.returncode == 0 and "WARNING" not in run.stderr, run.stderr)
        self.log = folder / "haproxy.log"
        self.process = subprocess.Popen(
            ["/usr/sbin/haproxy", "-f", path], stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        check("haproxy finds the replicas", wait_for(lambda: post(self.address + "/v1/jobs", {"bad": 1})[0] == 400))
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


def a_replica_dies(tool, folder):
    count = 24
    subprocess.run(
        [tool, "generate", "red apple", "--count", str(count), "--seed", "0", "--steps", "20", "--guidance", "2",
         "--device", "cpu", "--quiet", "--output", folder / "own.png"], check=True, stdout=subprocess.DEVNULL)
    own = [(folder / f"own-{number:02}.png").read_bytes() for number in range(count)]
    with Server(tool, "--device", "cpu") as one, Server(tool, "--device", "cpu") as two, \
            HAProxy(folder, [one, two]) as proxy:
        def ask(seed):
            return post(proxy.address + "/v1/images/generations", {
                "prompt": "red apple", "seed": seed, "steps": 20, "guidance": 2, "size": "64x64"})

        with concurrent.futures.ThreadPoolExecutor(12) as clients:
            answers = [clients.submit(ask, seed) for seed in range(count)]
            wait_for(lambda: sum(answer.done() for answer in answers) >= 4)
            wait_for(lambda: health(one)[1].get("running") == 1)
            depth = health(one)[1]
            check("a replica has what it draws and no queue", depth.get("queue_depth") == 0, depth)
            kill_at_once(one)
            outcomes = [answer.result() for answer in answers]
        failed = [(seed, status) for seed, (status, _) in enumerate(outcomes) if status != 200]
        print(f"      {count} requests, {len(failed)} failed: {failed}")
        if failed:
            print(proxy.log.read_text())
        check("a replica that is killed costs no request that the proxy still has", failed == [], failed)
        right = [pixels(base64.b64decode(answer["data"][0]["b64_json"])) == pixels(own[seed])
                 for seed, (status, answer) in enumerate(outcomes) if status == 200]
        check("each has its picture", all(right), right)
        again = [ask(seed)[0] for seed in range(6)]
        check("the other replica goes on alone", again == [200] * 6, again)
        with Server(tool, "--device", "cpu", port=one.port) as new:
            used = wait_for(lambda: ask(0)[0] == 200 and b"langevin_pictures_total 0" not in new.get("/metrics"))
            check("a new one in its place is used", used)
            # As large as one with a picture in it.
            body = {"prompt": "red apple", "negative_prompt": "green " * 4000, "steps": 300, "size": "64x64"}
            with concurrent.futures.ThreadPoolExecutor(1) as client:
                answer = client.submit(post, proxy.address + "/v1/images/generations", body)
                wait_for(lambda: any(health(server)[1].get("running") == 1 for server in (new, two)))
                kill_at_once(new if health(new)[1].get("running") == 1 else two)
                status = answer.result()[0]
            check("a large request that a dead replica had is answered with 502", status == 502, status)


def pixels(data):
    """The picture's own bytes: files differ in the text that they carry."""
    end, chunks = 8, b""
    while end < len(data):
        size = int.from_bytes(data[end:end + 4], "big")
        if data[end + 4:end + 8] in (b"IHDR", b"IDAT"):
            chunks += data[end + 8:end + 8 + size]
        end += size + 12
    return chunks


def draining(tool):
    with Server(tool, "--device", "cpu") as server:
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            body = {"prompt": "red apple", "steps": 150, "size": "64x64"}
            answers = [clients.submit(post, server.address + "/v1/images/generations", body) for _ in range(3)]
            check("drain: one is drawn and two wait", wait_for(lambda: health(server)[1] | {"version": ""} == {
                "status": "ok", "queue_depth": 2, "running": 1, "queue_limit": 16, "version": ""}), health(server))
            server.process.terminate()
            status, depth = 200, {}
            wait_for(lambda: health(server)[0] != 200, 5)
            status, depth = health(server)
            check("drain: /health is 503", status == 503 and depth.get("status") == "draining", (status, depth))
            status, text = post(server.address + "/v1/images/generations", body)
            check("drain: a new request is refused with 503", status == 503 and "message" in str(text), (status, text))
            outcomes = [answer.result()[0] for answer in answers]
            check("drain: what was there is drawn", outcomes == [200] * 3, outcomes)
            check("drain: then it ends", wait_for(lambda: server.process.poll() == 0, 5), server.process.poll())


def behind_nginx(tool, folder):
    port = free_port()
    with Server(tool, "--device", "cpu", "--allow-host", "pictures.example.org") as server:
        lines = block("Serving.md", "proxy_pass").replace("127.0.0.1:7860", f"127.0.0.1:{server.port}")
        work = folder / "nginx"
        work.mkdir()
        temporary = "".join(f"{kind}_temp_path {work}/{kind}; " for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (work / "nginx.conf").write_text(
            f"daemon off; user root; pid {work}/pid; error_log {work}/error.log;\nevents {{}}\n"
            f"http {{ access_log off; {temporary}\nserver {{ listen 127.0.0.1:{port};\n{lines}\n}} }}\n")
        command = ["/usr/sbin/nginx", "-c", str(work / "nginx.conf"), "-e", str(work / "error.log")]
        run = subprocess.run([*command, "-t"], capture_output=True, text=True)
        check("nginx -t takes the lines", run.returncode == 0 and "warn" not in run.stderr, run.stderr)
        proxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: post(address + "/v1/jobs", {"bad": 1})[0] == 400)
            host = {"Host": "pictures.example.org"}
            body = {"prompt": "red apple", "steps": 100, "preview_every": 10}
            status, job = post(address + "/v1/jobs", body, headers=host)
            check("nginx: a job by the name of the site", status == 202, job)
            first, names, began = None, [], time.monotonic()
            request = urllib.request.Request(address + f"/v1/jobs/{job['id']}/events", headers=host)
            with urllib.request.urlopen(request, timeout=60) as stream:
                for line in stream:
                    if line.startswith(b"event: "):
                        first = first or time.monotonic() - began
                        names.append(line[7:].decode().strip())
            whole = time.monotonic() - began
            check("nginx: events come as they happen", names[-1] == "done" and "preview" in names and first < whole / 2,
                  (first, whole, names[-1:]))
            body = {"prompt": "a", "steps": 2}
            status, _ = post(address + "/v1/images/generations", body, headers={"Host": "evil.example"})
            check("nginx: another name is refused", status == 403, status)
            large = "A" * (4 << 20)
            status, text = post(address + "/sdapi/v1/png-info", {"image": large})
            check("nginx: bodies of megabytes come through", status == 400, (status, str(text)[:100]))
        finally:
            proxy.terminate()
            proxy.wait(10)


def unit(tool, folder):
    text = block("Serving.md", "[Service]").replace("/usr/bin/langevin", tool)
    path = folder / "langevin.service"
    path.write_text(text)
    run = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    said = [line for line in run.stderr.splitlines() if "langevin" in line]
    check("systemd-analyze verify takes the unit", run.returncode == 0 and said == [], run.stderr)


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    programs = ["/usr/sbin/haproxy", "/usr/sbin/nginx", "/usr/bin/systemd-analyze"]
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)} (apt install haproxy nginx-light systemd)")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        a_replica_dies(tool, folder)
        draining(tool)
        behind_nginx(tool, folder)
        unit(tool, folder)
    print(f"{time.monotonic() - began:.0f} s")
    return check.report()


if __name__ == "__main__":
    sys.exit(main())
