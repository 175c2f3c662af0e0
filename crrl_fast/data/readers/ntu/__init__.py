"""NTU RGB+D and NTU RGB+D 120 as their authors give them out: one ``.skeleton`` text a clip, from the Kinect v2.

Names are ``SsssCcccPpppRrrrAaaa``: setup, camera, performer, replication and action.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crrl_fast import _ext
from crrl_fast.data.clip import Clip
from crrl_fast.data.layouts import NTU25
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.ntu import plain
from crrl_fast.data.readers.ntu.actors import arrange_actors
from crrl_fast.data.readers.ntu.protocol import EDITIONS, FPS, NTU60, NTU120, Edition, load_missing
from crrl_fast.data.readers.parallel import map_in_order
from crrl_fast.data.readers.source import count_files, open_source
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

SUFFIX = ".skeleton"
MISSING = "on the authors' list of missing or incomplete skeletons"
EMPTY = "without a body in any frame"

_NAME = re.compile(
    r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})", re.ASCII
)
_parse: Callable[[bytes], plain.Parsed] = (
    _ext.module.parse_ntu_skeleton if _ext.module is not None else plain.parse_ntu_skeleton
)


@dataclass(frozen=True)
class Skipped:
    """A clip that is left out on purpose."""

    clip: str
    why: str


def recognise(source: Path) -> str | None:
    """Look for files named ``SsssCcccPpppRrrrAaaa.skeleton``."""
    count = count_files(source, re.compile(_NAME.pattern + re.escape(SUFFIX), re.ASCII))
    return f"NTU RGB+D: {count} raw skeleton files" if count else None


def read(request: Request) -> Recording:
    """Read a zip or a folder, in the order of the files' paths, ``request.workers`` at a time.

    Data set ``ntu60`` takes actions 1 to 60, ``ntu120`` all 120; any other name goes by what the files hold. A clip has
    two bodies (see ``actors``). Left out on purpose are other actions, the samples that the authors list as missing or
    incomplete, and clips without a body. Problems name the file, the line and what is wrong there.
    """
    with open_source(request.source, SUFFIX) as files:
        stems = [PurePosixPath(path).stem for path, _ in files]
    edition = EDITIONS.get(request.dataset) or _edition_of(stems)
    return Recording(NTU25, _clips(request, edition), len(stems), edition.class_names, FPS, edition.splits)


READER = Reader("ntu-raw", "NTU RGB+D, raw .skeleton files", recognise, read)


def _edition_of(stems: Iterable[str]) -> Edition:
    actions = (int(match["action"]) for match in map(_NAME.fullmatch, stems) if match)
    return NTU60 if max(actions, default=0) <= NTU60.actions else NTU120


def _clips(request: Request, edition: Edition) -> Iterator[Clip]:
    missing = load_missing()

    def outcome(file: tuple[str, Callable[[], bytes]]) -> Clip | Skipped | DataError:
        path, content = file
        try:
            return _read_clip(f"{request.source}: {path}", PurePosixPath(path).stem, content, edition, missing)
        except DataError as problem:
            return problem

    with open_source(request.source, SUFFIX) as files:
        for result in map_in_order(outcome, files, request.workers):
            if isinstance(result, Clip):
                yield result
            elif isinstance(result, Skipped):
                request.skip(result.clip, result.why)
            else:
                request.report(result)


def _read_clip(
    where: str, stem: str, content: Callable[[], bytes], edition: Edition, missing: frozenset[str]
) -> Clip | Skipped:
    match = _NAME.fullmatch(stem)
    if match is None:
        raise DataError(f"{where}: the name is not SsssCcccPpppRrrrAaaa{SUFFIX}")
    action = int(match["action"])
    if not 1 <= action <= NTU120.actions:
        raise DataError(f"{where}: action {action} is not one of 1 to {NTU120.actions}")
    if action > edition.actions:
        return Skipped(stem, f"of actions above {edition.actions}, which {edition.name} does not have")
    if stem in missing:
        return Skipped(stem, MISSING)
    try:
        parsed = _parse(content())
    except ValueError as error:
        raise DataError(f"{where}, {error}: repair or remove that file, or leave it out with --skip-bad") from error
    coords = arrange_actors(*parsed)
    if coords is None:
        return Skipped(stem, EMPTY)
    return Clip(
        name=stem,
        coords=coords,
        label=action - 1,
        subject=int(match["performer"]),
        camera=int(match["camera"]),
        setup=int(match["setup"]),
        replication=int(match["replication"]),
    )
