"""A Python process of the grader's own that answers one question after another, and is replaced if it is stopped.

Both ends are the grader's: what they exchange is pickled, and a submission is a text to both.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

__all__ = ["Ended", "Process", "serve"]

START = ("import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; "
         "from minikernels.grading.process import serve; serve(import_module(sys.argv[2]).answer)")


class Ended(Exception):
    """The process ended before it had answered; `overtime` says whether a limit of time ended it."""

    def __init__(self, code, overtime):
        super().__init__(f"exit code {code}")
        self.code, self.overtime = code, overtime


class Process:
    """A process that answers with the function ``answer`` of a module; it is started by the first question.

    Parameters
    ----------
    module : str
        ``minikernels.grading.lockstep``.
    """

    def __init__(self, module):
        self.module, self.process = module, None

    def ask(self, question, seconds):
        """Return the module's answer.

        Raises
        ------
        Ended
            If it ended, or had no answer after so many seconds on the clock.
        RuntimeError
            If the answering function raised: a line that says what, and the traceback.
        """
        process = self.process = self.process or self.start()
        patience = threading.Timer(seconds, process.kill)
        patience.start()
        try:
            send(process.stdin, question)
            done, answer = receive(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            late = not patience.is_alive()
            self.close()
            raise Ended(process.returncode, late or process.returncode == -getattr(signal, "SIGXCPU", 24)) from None
        except BaseException:  # an interrupt: the answer that is still to come would be taken for the next one's
            self.close()
            raise
        finally:
            patience.cancel()
        if not done:
            raise RuntimeError(answer)
        return answer

    def start(self):
        """Start the process, which sees nothing of this one's environment."""
        root = Path(__file__).resolve().parent.parent.parent
        kept = {k: os.environ[k] for k in ("SYSTEMROOT", "TMPDIR", "TEMP") if k in os.environ}
        return subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(root), self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})

    def close(self):
        """End the process, if there is one; the next question starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):  # what could not be sent stays in the buffer
                    stream.close()
            self.process = None


def serve(answer):
    """Answer questions until there are none: what the process runs."""
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but answers goes where they go
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            question = receive(incoming)
            try:
                reply = True, answer(question)
            except Exception as error:
                first = "".join(traceback.format_exception_only(error)).splitlines()[0]
                reply = False, f"{first}\n{traceback.format_exc()}"
            send(outgoing, reply)


def send(stream, thing):
    """Write a length and a pickle of that length."""
    data = pickle.dumps(thing)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream):
    """Read what `send` wrote."""
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError
    return pickle.loads(stream.read(int.from_bytes(size, "little")))
