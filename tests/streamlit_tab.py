"""A reader without a browser: speaks Streamlit's protocol over any connection that is handed to it."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

File = tuple[str, bytes]
SendFile = Callable[[str, str, bytes], int]
"""Sends a body of a content type to a path by PUT, and returns the status."""


class Socket(Protocol):
    """A WebSocket that is open."""

    def send_bytes(self, data: bytes) -> None: ...
    def receive_bytes(self) -> bytes: ...
    def close(self) -> None: ...


@dataclass
class Reader:
    """One tab. `elements` are those of its last run, by kind."""

    socket: Socket
    put: SendFile
    session_id: str = ""
    elements: dict[str, list] = field(default_factory=dict)
    states: dict[str, WidgetState] = field(default_factory=dict)

    def run(self, *changed: WidgetState) -> None:
        """Run the page with changed widgets to its end."""
        self.states |= {state.id: state for state in changed}
        message = BackMsg()
        message.rerun_script.widget_states.widgets.extend(self.states.values())
        self.socket.send_bytes(message.SerializeToString())
        for state in changed:
            if state.WhichOneof("value") == "trigger_value":
                del self.states[state.id]
        self._listen()

    def _listen(self) -> None:
        while True:
            message = ForwardMsg()
            message.ParseFromString(self.socket.receive_bytes())
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.session_id = message.new_session.initialize.session_id
                self.elements = {}
            elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
                element = message.delta.new_element
                name = element.WhichOneof("type")
                self.elements.setdefault(name, []).append(getattr(element, name))
            elif (
                message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
                and kind == "script_finished"
            ):
                return

    def give(self, *files: File) -> None:
        """Upload files and let the page read them."""
        state = WidgetState(id=self.elements["file_uploader"][-1].id)
        for name, data in files:
            file_id = str(uuid.uuid4())
            path = f"/_stcore/upload_file/{self.session_id}/{file_id}"
            body, kind = multipart(name, data)
            status = self.put(path, kind, body)
            assert status == 204, status
            state.file_uploader_state_value.uploaded_file_info.add(
                file_id=file_id, name=name, size=len(data)
            )
        self.run(state)

    def click(self, label: str) -> None:
        """Press the button of that label."""
        [button] = [element for element in self.elements["button"] if element.label == label]
        self.run(WidgetState(id=button.id, trigger_value=True))

    def words(self) -> str:
        """Return the Markdown texts of the page, with its alerts."""
        parts = [
            element.body
            for kind in ("markdown", "alert")
            for element in self.elements.get(kind, [])
        ]
        return "\n".join(parts)


def multipart(name: str, data: bytes) -> tuple[bytes, str]:
    """Return a file as the body of a form, with its content type."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quote(name)}"\r\n'
    )
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return (
        head.encode() + data + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def read_all(readers: Iterable[Reader], files: Sequence[File]) -> None:
    """Let each reader read the files."""
    for reader in readers:
        reader.run()
        reader.give(*files)
