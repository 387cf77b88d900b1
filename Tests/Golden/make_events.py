"""A golden event file: what TensorBoard's own classes serialise for fixed inputs.

    python make_events.py

writes Fixtures/events/golden.tfevents and checks that TensorBoard's reader makes of it what was put in. RunTests write
the same events and compare the bytes.
"""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FIXTURES = Path(__file__).parent / "Fixtures"
PNG = (FIXTURES / "pictures/rgb.png").read_bytes()
TIME = 1700000000.25
LOSS = [(1, 0.5), (2, 0.0), (300, -1e-30)]

folder = FIXTURES / "events"
folder.mkdir(exist_ok=True)
path = folder / "golden.tfevents"
value = Summary.Value
with open(path, "wb") as file:
    writer = RecordWriter(file)
    events = [
        Event(wall_time=TIME, file_version="brain.Event:2"),
        Event(wall_time=TIME, step=0, session_log=SessionLog(status=SessionLog.START)),
    ]
    for step, loss in LOSS:
        summary = Summary(value=[value(tag="train/loss", simple_value=loss),
                                 value(tag="train/räte", simple_value=6e-4)])
        events.append(Event(wall_time=TIME, step=step, summary=summary))
    image = Summary.Image(height=7, width=9, colorspace=3, encoded_image_string=PNG)
    events.append(Event(wall_time=TIME, step=300, summary=Summary(value=[value(tag="samples", image=image)])))
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))

accumulator = EventAccumulator(str(path)).Reload()
read = [(scalar.step, scalar.value) for scalar in accumulator.Scalars("train/loss")]
assert [step for step, _ in read] == [1, 2, 300] and read[0][1] == 0.5 and read[1][1] == 0, read
assert accumulator.Images("samples")[0].encoded_image_string == PNG
print(path, path.stat().st_size)
