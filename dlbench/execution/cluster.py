"""A Ray cluster as the site of a study: one actor per core or accelerator of its nodes. No jax.

Ray places actors, carries messages, and notices who has died; what is retried is decided by the pool, so Ray's own
retries are off. Ray is imported where a cluster is asked for.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TextIO, cast

import dlbench
from dlbench import data
from dlbench.data.arrays import ARRAY_FIELDS
from dlbench.errors import Field, InputError, SpecError, WorkerError
from dlbench.execution import devices, messages, modules, nodes
from dlbench.execution.endpoint import End, Endpoint, Receive
from dlbench.execution.environment import differences
from dlbench.execution.place import Place
from dlbench.execution.processes import LEFT_TO_PARENT, held_back
from dlbench.execution.site import Here, Site, Start
from dlbench.spec.trial import Trial

CLUSTER_VARIABLE = "DLBENCH_CLUSTER"
#: The resource of Ray that a worker takes one of, by kind of device.
_RESOURCES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
#: Seconds between looks for nodes that join or leave.
_LOOK_S = 1.0
#: Seconds that nodes may take to describe themselves when a study begins: they start jax and compile the kernels.
_SURVEY_S = 180.0
#: Seconds to wait for a first node.
_JOIN_S = 60.0
#: Seconds that a killed worker may take to exit.
_KILL_S = 5.0
#: The beginning of lines that Ray's own processes print.
_OF_RAY = re.compile(r"\((raylet|gcs_server|autoscaler)[^)]*\)")
#: Seconds between questions to a worker that does not answer.
_ASK_AGAIN_S = 0.2
#: Memory for objects of a cluster that is started here, whose workers share this machine's cache.
_LOCAL_STORE_BYTES = 2**28


@contextlib.contextmanager
def opened(asked: str | Site | None, device: str = "auto") -> Iterator[Site]:
    """The machines on which to train; a cluster that is connected to here is left again at the end.

    Args:
        asked: "auto", "local", "HOST:PORT", or a site that is open already; by default ``DLBENCH_CLUSTER``, else this
            machine.
        device: the kind of device, as it is asked for.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    asked = asked or os.environ.get(CLUSTER_VARIABLE) or Here()
    if not isinstance(asked, str):
        yield asked
        return
    if not re.fullmatch(r"auto|local|[^/\s]+:[0-9]{1,5}", asked):
        raise SpecError.must_be("cluster", "'auto', 'local' or HOST:PORT", asked)
    ray = _ray()
    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            stack.enter_context(_quiet())
            stack.enter_context(_connected(ray, asked))
        site = Cluster(ray, device)
        stack.callback(site.close)
        yield site


def _ray() -> Any:
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")):
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError(
            Field("cluster"),
            " needs Ray, which is not installed",
            remedy="run pip install 'dlbench[cluster]'",
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, asked: str) -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    here: dict[str, Any] = {}
    if asked == "local":
        here = {
            "num_cpus": devices.count("cpu"),
            "object_store_memory": _LOCAL_STORE_BYTES,
            "include_dashboard": False,
        }
    meant_for_us = tuple(
        number for number in LEFT_TO_PARENT if number != signal.SIGTERM
    )  # by which Ray ends them
    try:
        with held_back(meant_for_us):  # the processes that Ray starts here would end by these
            ray.init(address=asked, logging_level=logging.ERROR, **here)
    except (ConnectionError, ValueError, RuntimeError, AssertionError, ray.exceptions.RayError) as error:
        raise InputError(
            *(Field("cluster"), f" {asked}: Ray cannot connect: {_in_one_line(error)}"),
            value=asked,
            remedy="start dlbench on a node of a running cluster, or use 'local'",
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray sets its own
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what Ray's threads print, the output of workers, to standard error, without what Ray says of itself."""
    stdout, stderr = (cast(TextIO, _Output(stream, sys.stderr)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        yield


class _Output:
    """A stream for which threads of Ray write to standard error.

    Args:
        stream: where all other threads write.
        stderr: standard error.
    """

    def __init__(self, stream: TextIO, stderr: TextIO) -> None:
        self._stream, self._stderr, self._is_dropping = stream, stderr, False

    def write(self, text: str) -> int:
        if not threading.current_thread().name.startswith("ray_"):
            return self._stream.write(text)
        self._is_dropping = bool(_OF_RAY.search(text)) or (self._is_dropping and text == "\n")
        if not self._is_dropping:
            with contextlib.suppress(OSError, ValueError):
                self._stderr.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass
class _Node:
    """A node of the cluster; ``about``: its answer to :func:`dlbench.execution.nodes.survey`, once it is there."""

    id: str
    host: str
    resources: Mapping[str, float]
    answer: Any
    about: Mapping[str, Any] | None = None
    problem: str = ""
    prepared: Any = None

    def slots(self, kind: str) -> int:
        """The number of workers that the node has room for."""
        if self.about is None or self.about["device"] != kind:
            return 0
        return int(self.resources.get(_RESOURCES.get(kind, ""), 0))

    @property
    def environment(self) -> Mapping[str, Any]:
        described: Mapping[str, Any] = (self.about or {}).get("environment", {})
        return described


class Cluster:
    """The cluster that this process is connected to.

    Args:
        ray: the package.
        device: the kind of device to train on, as it is asked for.
    """

    is_elastic = True

    def __init__(self, ray: Any, device: str) -> None:
        self.ray, self._asked = ray, device
        self._nodes: dict[str, _Node] = {}
        self._exported: dict[Callable[..., Any], Any] = {}
        self._own = ray.get_runtime_context().get_node_id()
        self._looked = -_LOOK_S
        self._kind, self._admitted = "", ""
        self._answers: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        threading.Thread(target=self._handle_answers, daemon=True).start()

    def close(self) -> None:
        """End the thread that handles answers."""
        self._answers.put(None)

    def when_done(self, asked: Any, handle: Callable[[Future[Any]], object]) -> None:
        """Call a function with the answer to a call, when it is there.

        It is called in a thread of this cluster, because calls from the one that Ray answers in can wait for ever.
        """
        asked.future().add_done_callback(lambda done: self._answers.put(lambda: handle(done)))

    def _handle_answers(self) -> None:
        while (handle := self._answers.get()) is not None:
            handle()

    def device(self, asked: str) -> str:
        """The kind of device that most workers would have; waits a while for a first node that can train."""
        self._asked = asked
        end = time.monotonic() + _JOIN_S
        while not (slots := self._slots()) and time.monotonic() < end:
            if any(node.problem for node in self._nodes.values()):
                break
            time.sleep(_LOOK_S)
        if not slots:
            raise WorkerError(f"no node of the cluster can train\n{self._problems()}".strip())
        self._kind = slots.most_common(1)[0][0]
        return self._kind

    def _slots(self) -> Counter[str]:
        """The room for workers, by kind of device."""
        self._wait()
        found = Counter[str]()
        for node in self._surveyed():
            found[node.about["device"]] += node.slots(node.about["device"])  # type: ignore[index]
        return +found

    def count(self, kind: str) -> int:
        """See :class:`~dlbench.execution.site.Site`."""
        return sum(node.slots(kind) for node in self._admits(self._admitted))

    def cores_each(self, asked: int | None, kind: str, trials: int) -> int:
        """One: a worker takes one core."""
        return 1

    def environment(self, kind: str, workers: int, recorded: Collection[str | None]) -> Mapping[str, Any]:
        """The environment of the nodes that train: that of most results, else that of most workers."""
        slots, known = Counter[str](), Counter(recorded)
        for node in self._surveyed():
            slots[node.environment["digest"]] += node.slots(kind)
        slots = +slots
        self._admitted = max(slots, key=lambda found: (known[found], slots[found], found))
        return next(n.environment for n in self._surveyed() if n.environment["digest"] == self._admitted)

    def in_words(self) -> Sequence[str]:
        """The nodes that train, and those that do not with the reason."""
        admitted = self._admits(self._admitted)
        slots = self.count(self._kind)
        found = [f"{len(admitted)} node{'s' * (len(admitted) != 1)} with {slots} worker{'s' * (slots != 1)}"]
        others = Counter(
            "; ".join(differences(admitted[0].environment, node.environment))
            for node in self._surveyed()
            if node not in admitted
        )
        found += [
            f"{number} node{'s' * (number != 1)} of another environment ({differing}) "
            f"do{'es' * (number == 1)} not train, because bits could differ"
            for differing, number in others.items()
        ]
        return found + [
            f"node {node.host} cannot train: {node.problem}" for node in self._nodes.values() if node.problem
        ]

    def starter(self, place: Place, trials: Sequence[Trial]) -> Start:
        """See :class:`~dlbench.execution.site.Site`."""
        return _Starter(self, place, trials).start

    def room(self, place: Place, taken: Mapping[str, int]) -> _Node | None:
        """The node with the most room for another worker; ``None`` if there is none.

        Args:
            place: where to train.
            taken: the number of workers by node.
        """
        self._look()
        free = {
            node.id: node.slots(place.device) - taken.get(node.id, 0)
            for node in self._admits(place.environment)
        }
        best = max(free, key=free.__getitem__, default=None)
        return self._nodes[best] if best is not None and free[best] > 0 else None

    def is_alive(self, node: str) -> bool:
        """Whether a node is part of the cluster now."""
        return any(each["NodeID"] == node and each["Alive"] for each in self.ray.nodes())

    def kill(self, actor: Any) -> None:
        """Kill an actor, if it and the connection to the cluster are still there."""
        with contextlib.suppress(Exception):
            self.ray.kill(actor)

    def _admits(self, environment: str | None) -> list[_Node]:
        return [n for n in self._surveyed() if environment in (None, "", n.environment["digest"])]

    def _surveyed(self) -> list[_Node]:
        return [node for node in self._nodes.values() if node.about is not None]

    def _problems(self) -> str:
        return "\n".join(f"{node.host}: {node.problem or 'no answer'}" for node in self._nodes.values())

    def _wait(self) -> None:
        """Wait until every node that is there has described itself."""
        self._look()
        answers = [node.answer for node in self._nodes.values() if node.answer is not None]
        if answers:
            self.ray.wait(answers, num_returns=len(answers), timeout=_SURVEY_S)
        self._hear()

    def _look(self) -> None:
        """Take notice of nodes that have joined or left."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        alive = {each["NodeID"]: each for each in self.ray.nodes() if each["Alive"]}
        if self._own not in alive:
            raise WorkerError("Ray has ended on this machine", remedy="start it again and repeat the command")
        self._nodes = {name: node for name, node in self._nodes.items() if name in alive}
        for name, found in alive.items():
            if name in self._nodes or not any(map(found["Resources"].get, _RESOURCES.values())):
                continue
            answer = self.on(name, nodes.survey, self._accelerator(found["Resources"])).remote(self._asked)
            self._nodes[name] = _Node(name, found["NodeManagerAddress"], found["Resources"], answer)
        self._hear()

    def _accelerator(self, resources: Mapping[str, float]) -> str | None:
        """The resource without which a process does not see the accelerator of a node."""
        kinds = ("gpu", "tpu") if self._asked == "auto" else (self._asked,)
        return next(
            (_RESOURCES[k] for k in kinds if k != "cpu" and resources.get(_RESOURCES.get(k, k))), None
        )

    def on(self, node: str, run: Callable[..., Any], resource: str | None = None) -> Any:
        """A function or class of :mod:`dlbench.execution.nodes` that runs on a node, with one of a resource."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        amounts: dict[str, Any] = {"num_cpus": int(resource == "CPU"), "num_gpus": int(resource == "GPU")}
        if resource not in (None, "CPU", "GPU"):
            amounts["resources"] = {resource: 1}
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        if isinstance(run, type):  # one thread waits for events, the other takes commands
            more = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        else:
            more = {"max_retries": 0}
        if run not in self._exported:
            self._exported[run] = self.ray.remote(run)
        return self._exported[run].options(scheduling_strategy=where, **amounts, **more)

    def _hear(self) -> None:
        """Take the answers of nodes that have described themselves."""
        waiting = {node.answer: node for node in self._nodes.values() if node.answer is not None}
        if not waiting:
            return
        ready, _ = self.ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for answer in ready:
            node = waiting[answer]
            node.answer = None
            try:
                about = json.loads(self.ray.get(answer))
            except Exception as error:
                node.problem = _in_one_line(error)
                continue
            if about["version"] == dlbench.__version__:
                node.about = about
            else:
                node.problem = f"it has dlbench {about['version']}, and this machine {dlbench.__version__}"


class _Starter:
    """Starts the workers of a study where there is room."""

    def __init__(self, cluster: Cluster, place: Place, trials: Sequence[Trial]) -> None:
        self._cluster, self._place = cluster, place
        self._modules = modules.pack(trial.spec for trial in trials)
        self._datasets = {trial.data_digest: trial.spec.dataset for trial in trials}
        self._sent: dict[str, tuple[Any, Any]] = {}
        self._endpoints: list[ActorEndpoint] = []

    def start(self, number: int, receive: Receive) -> Endpoint | None:
        """See :data:`~dlbench.execution.site.Start`."""
        self._endpoints = [each for each in self._endpoints if not each.has_exited]
        node = self._cluster.room(self._place, Counter(each.node.id for each in self._endpoints))
        if node is None:
            return None
        setup = messages.Setup(
            worker=number,
            data_dir=None,
            checkpoint_every=self._place.checkpoint_every,
            keep_state=self._place.keep_state,
            memory_bytes=self._place.memory_bytes,
            sys_path=(),
            node=node.host,
            files=self._modules,
        )
        resource = _RESOURCES[self._place.device]
        actor = self._cluster.on(node.id, nodes.Actor, resource).remote(
            messages.encode(setup), self._place.device, self._prepare(node)
        )
        endpoint = ActorEndpoint(number, self._cluster, node, actor, receive)
        self._endpoints.append(endpoint)
        return endpoint

    def _prepare(self, node: _Node) -> Any:
        """What workers of a node have to wait for: the data sets that its cache lacks."""
        assert node.about is not None
        for digest, name in self._datasets.items():
            if digest not in node.about["datasets"]:
                node.about["datasets"].append(digest)
                about, arrays = self._stored(digest, name)
                node.prepared = self._cluster.on(node.id, nodes.deliver).remote(about, arrays, node.prepared)
        return node.prepared

    def _stored(self, digest: str, name: str) -> tuple[Any, Any]:
        """A data set in Ray's store of objects."""
        if digest not in self._sent:
            found = data.load(f"{name.partition('@')[0]}@{digest}", self._place.data_dir)
            about = {
                key: getattr(found, key) for key in ("name", "num_classes", "digest", "class_names", "source")
            }
            self._sent[digest] = (
                about,
                self._cluster.ray.put({key: getattr(found, key) for key in ARRAY_FIELDS}),
            )
        return self._sent[digest]


class ActorEndpoint:
    """A worker in an actor.

    Args:
        number: the worker's number.
        cluster: the cluster.
        node: the node.
        actor: the handle of the actor.
        receive: called from a thread with each event of the worker.
    """

    def __init__(self, number: int, cluster: Cluster, node: _Node, actor: Any, receive: Receive) -> None:
        self.number, self.node, self._cluster, self._actor = number, node, cluster, actor
        self._receive = receive
        self._numbers = itertools.count()
        self._exited = threading.Event()
        self._closing = self._is_doubtful = self._is_cut_off = False
        self._error: BaseException | None = None
        self._ask()

    @property
    def has_exited(self) -> bool:
        """Whether the worker has exited, so that there is room for another one."""
        return self._exited.is_set()

    def send(self, message: messages.AnyCommand) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        sent = self._actor.send.remote(next(self._numbers), messages.encode(message))
        self._cluster.when_done(sent, self._sent)

    def kill(self) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        self.close()
        self._exited.wait(_KILL_S)

    def close(self) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`; does not wait."""
        self._closing = True
        self._cluster.kill(self._actor)

    def how_it_ended(self) -> End:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        if not self._cluster.is_alive(self.node.id):
            return End(f"node {self.node.host} was lost", is_loss=True)
        if self._error is None:
            return End(f"the connection to node {self.node.host} was lost", is_loss=True)
        if isinstance(self._error, WorkerError):
            return End("ended with an error", str(self._error))
        return End("died", _in_one_line(self._error))

    def _ask(self) -> None:
        self._cluster.when_done(self._actor.events.remote(), self._hear)

    def _sent(self, done: Future[None]) -> None:
        if done.exception() is not None:
            self._is_cut_off = True

    def _hear(self, done: Future[bytes]) -> None:
        try:
            batch = done.result()
        except self._cluster.ray.exceptions.ActorUnavailableError:
            # The worker or its node has died, or a message was lost. Ray finds out which, for those who ask again.
            self._is_doubtful = True
            again = threading.Timer(_ASK_AGAIN_S, self._ask)
            again.daemon = True
            again.start()
            return
        except Exception as error:
            self._exit(error)
            return
        self._is_cut_off |= self._is_doubtful
        if not batch or self._is_cut_off:
            self._exit(None)
            return
        stream = io.BytesIO(batch)
        try:
            while (event := messages.read_event(stream)) is not None:
                self._receive(self, event)
        except ValueError as error:  # a message of another version
            self._exit(error)
        else:
            self._ask()

    def _exit(self, error: BaseException | None) -> None:
        self._error = error
        self._exited.set()
        if not self._closing:
            self._receive(self, None)


def _in_one_line(error: object) -> str:
    return " ".join(str(error).split())
