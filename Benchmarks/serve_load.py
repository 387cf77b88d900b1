"""What `langevin serve` adds to a picture, carries and survives, as a Markdown table.

    python serve_load.py --langevin PATH [--device cpu] [--steps 4] [--pictures 1000] [--interrupts 300] [--kills 20]
                         [--only added,rate,queue,kill,interrupt,memory,bad] [--serve="--batch 4"]

Each part starts a server of its own with the shipped model. One that misses its goal says so, and the exit status is 1.
`added` sets a request beside how much longer `langevin generate` takes for one more picture. Needs Linux's /proc.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

MISSED = []


def row(name, figure, goal="", holds=True):
    """Prints a row at once, so that a run that is broken off has said what it knows."""
    if not holds:
        MISSED.append(name)
    print(f"| {name} | {figure} | {goal}{'' if holds else ' **missed**'} |", flush=True)


class Server:
    """A server on a free port, until the `with` ends."""

    def __init__(self, arguments, *more):
        self.command = [arguments.langevin, "serve", "--port", "0", "--device", arguments.device,
                        *arguments.serve.split(), *more]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            row("stopping", "longer than two seconds", "", False)

    def ask(self, method, path, body=None, timeout=120):
        """Status and JSON, or bytes of another type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        return answer.status, json.loads(data) if "json" in answer.getheader("Content-Type", "") else data

    def draw(self, steps, **more):
        order = {"prompt": "red apple", "steps": steps, "seed": 1, **more}
        return self.ask("POST", "/v1/images/generations", order)[0]

    def job(self, **order):
        return self.ask("POST", "/v1/jobs", {"prompt": "red apple", **order})[1]["id"]

    def state(self, job):
        return self.ask("GET", f"/v1/jobs/{job}")[1]

    def until(self, job, condition, seconds=60):
        """Whether it becomes so in time."""
        end = time.time() + seconds
        while not (holds := condition(self.state(job))) and time.time() < end:
            time.sleep(0.005)
        return holds

    def child(self):
        """The process that draws."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        return next((int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()), None)

    def memory(self):
        """MiB of the server and of the process that draws."""
        texts = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in (self.process.pid, self.child())]
        return [int(text.split("VmRSS:")[1].split()[0]) / 1024 for text in texts]

    def raw(self, data, half=False, timeout=20):
        """The status of the answer to these bytes, `closed` for a connection without one, or `hung`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            try:
                try:
                    connection.sendall(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # It may answer and close before it has read everything.
                if half:
                    connection.shutdown(socket.SHUT_WR)
                line = connection.recv(64)
            except TimeoutError:
                return "hung"
            except OSError:
                return "closed"
            return int(line.split()[1]) if line else "closed"


def library(arguments, count):
    """Seconds of one call that draws so many pictures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [arguments.langevin, "generate", "red apple", "--steps", str(arguments.steps), "--count", str(count),
                   "--device", arguments.device, "--seed", "1", "--quiet", "--json", "--output", f"{folder}/p.png"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["seconds"]["total"]


def added(arguments):
    more, rounds = 40, []
    with Server(arguments) as server:
        for _ in range(5):
            alone = (library(arguments, more + 1) - library(arguments, 1)) / more
            server.draw(arguments.steps)
            start = time.perf_counter()
            for _ in range(more):
                server.draw(arguments.steps)
            served = (time.perf_counter() - start) / more
            rounds.append([1000 * value for value in (served - alone, served, alone)])
    difference, served, alone = sorted(rounds)[2]
    row("what the server adds to a picture", f"{difference:.1f} ms ({min(rounds)[0]:.1f} to {max(rounds)[0]:.1f}); "
        f"{served:.1f} ms beside {alone:.1f} ms", "at most 10 ms", difference <= 10)


def rate(arguments):
    each = 12

    def drawn(server, clients):
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            work = [pool.submit(lambda: [server.draw(arguments.steps) for _ in range(each * 8 // clients)])
                    for _ in range(clients)]
            assert all(status == 200 for done in work for status in done.result())
        return each * 8 / (time.perf_counter() - start)

    with Server(arguments) as server:
        for _ in range(5):
            server.draw(arguments.steps)
        rounds = [(drawn(server, 1), drawn(server, 8)) for _ in range(3)]
    one, eight = (statistics.median(values) for values in zip(*rounds))
    ratio = statistics.median(eight / one for one, eight in rounds)
    row("eight clients beside one", f"{eight:.1f} beside {one:.1f} pictures a second: {ratio:.2f}",
        "at least 0.95", ratio >= 0.95)


def queue(arguments):
    with Server(arguments, "--queue", "8") as server:
        server.draw(1)
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            statuses = list(pool.map(lambda _: server.draw(100), range(200)))
        healthy = server.ask("GET", "/health")[1]["queue_depth"] == 0 and server.draw(1) == 200
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    row("200 requests at once, a queue of 8", ", ".join(f"{count} of {status}" for status, count in counts.items()),
        "each answered, 200 or 429", set(counts) == {200, 429} and counts[200] >= 9 and healthy)


def kill(arguments):
    lost = kept = 0
    with Server(arguments) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(arguments.kills):
            drawn = server.job(steps=500)
            assert server.until(drawn, lambda job: job["step"] > 2)
            waiting = pool.submit(server.draw, 2)
            while server.ask("GET", "/health")[1]["queue_depth"] == 0:
                time.sleep(0.005)
            os.kill(server.child(), signal.SIGKILL)
            lost += server.until(drawn, lambda job: job["state"] == "failed")
            kept += waiting.result() == 200
    row(f"kill -9 of the drawing process in mid-step, {arguments.kills} times",
        f"{lost} jobs failed, {kept} that waited were drawn", "one each", lost == kept == arguments.kills)


def interrupt(arguments):
    """A job that comes at any time after A1111's interrupt is drawn at once."""
    times, lost = [], 0
    chance = random.Random(4)
    with Server(arguments) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        server.draw(1)
        for number in range(arguments.interrupts):
            sampler = ["Euler a", "DDIM", "DPM++ 2M"][number % 3]
            order = {"prompt": "red apple", "steps": 400, "cfg_scale": 2, "sampler_name": sampler}
            ended = pool.submit(server.ask, "POST", "/sdapi/v1/txt2img", order)
            time.sleep(chance.uniform(0, 0.15))
            while not ended.done():
                server.ask("POST", "/sdapi/v1/interrupt", {})
                time.sleep(0.002)
            assert ended.result()[0] == 200
            time.sleep(chance.choice([0, 0, 0.005, 0.05, 1]) * chance.random())
            start = time.perf_counter()
            job = server.job(steps=3, count=2, preview_every=1)
            if not server.until(job, lambda job: job["state"] == "done", 15):
                lost += 1
                print("not drawn:", server.state(job), server.ask("GET", "/health"), file=sys.stderr)
            times.append(time.perf_counter() - start)
    row(f"a job after an A1111 interrupt, {len(times)} times", f"median {statistics.median(times):.2f} s, "
        f"longest {max(times):.2f} s, {lost} not drawn", "all within 15 s", lost == 0)


def memory(arguments):
    sizes = []
    with Server(arguments) as server:
        for number in range(arguments.pictures + 1):
            if number % 100 == 0:
                sizes.append(server.memory())
            assert server.draw(1, prompt=f"red apple {number}", seed=number) == 200
    # What is kept of ended jobs is full after 200, and an allocator takes its time.
    later = sizes[min(3, len(sizes) - 1):]
    growth = [max(values) - values[0] for values in zip(*later)]
    for name, values in zip(("server", "drawing process"), zip(*sizes)):
        row(f"MiB of the {name} every 100 of {arguments.pictures} pictures",
            " ".join(f"{value:.0f}" for value in values), "at most 16 more after 300",
            growth[name != "server"] <= 16)


def head(method, path, *fields):
    return ("\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields]) + "\r\n\r\n").encode()


def bad(arguments):
    with Server(arguments) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for place, connection in enumerate(slow):
            whole = head("POST", "/v1/jobs", "Content-Length: 100")
            connection.sendall(whole[:-2] if place % 2 else whole + b"{")
        start = time.perf_counter()
        statuses = [server.draw(1) for _ in range(10)]
        row("ten pictures beside 100 clients that never end their request",
            f"{(time.perf_counter() - start) * 100:.0f} ms each", "all drawn", statuses == [200] * 10)
        routes = ["/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/v1/png-info"]
        large = b" " * (33 << 20)
        told = [server.raw(head("POST", path, f"Content-Length: {len(large)}") + large) for path in routes]
        chunks = b"2100000\r\n" + large + b"\r\n0\r\n\r\n"
        told += [server.raw(head("POST", path, "Transfer-Encoding: chunked") + chunks) for path in routes]
        row("bodies over the limit, told and in chunks, five routes", " ".join(map(str, told)), "413, or closed",
            set(told) <= {413, "closed"} and told[0] == 413)
        cut = [server.raw(head("POST", path, "Content-Length: 1000") + b'{"prompt":', half=True) for path in routes]
        row("bodies that break off, five routes", " ".join(map(str, cut)), "400, or closed",
            set(cut) <= {400, "closed"})
        gone = 0
        for path, method, body in [("/v1/images/generations", "POST", b'{"prompt": "a", "steps": 500}'),
                                   ("/sdapi/v1/txt2img", "POST", b'{"prompt": "a", "steps": 500}'),
                                   ("/v1/jobs/{}/events?cancel_on_close=true", "GET", b"")] * 5:
            job = server.job(steps=500) if method == "GET" else None
            data = head(method, path.format(job), f"Content-Length: {len(body)}") + body
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(data)
            if job:
                connection.recv(100)
            else:
                while not (running := server.ask("GET", "/sdapi/v1/progress")[1]["state"]["job"]):
                    time.sleep(0.005)
                job = running
            connection.close()
            gone += server.until(job, lambda job: job["state"] == "cancelled", 10)
        row("clients that go away in mid-stream, three routes", f"{gone} of 15 jobs cancelled", "all", gone == 15)
        start = time.perf_counter()
        while slow and time.perf_counter() - start < 75:
            for connection in select.select(slow, [], [], 1)[0]:
                try:
                    ended = not connection.recv(4096)
                except ConnectionResetError:
                    ended = True
                if ended:
                    slow.remove(connection)
        row("those that never ended their request", f"{100 - len(slow)} of 100 closed after "
            f"{time.perf_counter() - start:.0f} s more", "all within 75 s", not slow)
        depth = server.ask("GET", "/health")[1]
        row("then", f"{depth['queue_depth']} wait, {depth['running']} drawn", "none",
            depth["queue_depth"] == depth["running"] == 0 and server.draw(1) == 200)


def main():
    parts = {"added": added, "rate": rate, "queue": queue, "kill": kill, "interrupt": interrupt, "memory": memory,
             "bad": bad}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--langevin", required=True)
    for option, default in {"device": "cpu", "steps": 4, "pictures": 1000, "interrupts": 300, "kills": 20, "serve": "",
                            "only": ",".join(parts)}.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    arguments = parser.parse_args()
    print("| | | goal |\n|---|---|---|")
    for name in arguments.only.split(","):
        parts[name](arguments)
    if MISSED:
        sys.exit("missed: " + ", ".join(MISSED))


if __name__ == "__main__":
    main()
