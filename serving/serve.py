"""Start the HTTP service on an address and stop it in order."""

import errno
import ipaddress
import logging
import socket
from pathlib import Path

import uvicorn

from genrec.errors import ConfigError
from genrec.model.code_head import Score
from genrec.serving.http import create_app
from genrec.serving.recommender import Recommender

logger = logging.getLogger(__name__)


def serve(
    path: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    beam: int = 50,
    new_item_weight: float = 1.0,
    score: Score | None = None,
    dense_weight: float | None = None,
    prefix_cache_bytes: int = 256 * 2**20,
    max_k: int = 100,
    max_history: int = 1000,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "torch",
) -> None:
    """Serve a trained model over HTTP until the process is told to stop (Ctrl+C or SIGTERM).

    Requests that are being answered are finished first.

    Args:
        path: Run folder or model folder.
        host: Address to listen on; the service has no log-in, so keep others out by a proxy.
        port: Port to listen on; 0 takes a free one.
        beam: Beam width.
        new_item_weight: See ``Recommender.from_pretrained``.
        score: See ``Recommender.from_pretrained``.
        dense_weight: See ``Recommender.from_pretrained``.
        prefix_cache_bytes: Memory for what was read of earlier histories; 0 keeps nothing.
        max_k: Largest k a request may ask for.
        max_history: Longest history a request may send.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
        dtype: ``float32``, ``bfloat16`` or ``auto``.
        engine: ``torch``, or ``vllm`` where it is installed.

    Raises:
        ConfigError: When the address cannot be used.
        ArtifactError: When there is no whole model in the folder.
        RequestError: When ``prefix_cache_bytes`` has no room for two items.
        DependencyError: When the engine is not installed.
    """
    # The address is taken before the model is loaded: a port in use is told at once.
    with open_socket(host, port) as listener:
        recommender = Recommender.from_pretrained(
            path,
            device=device,
            dtype=dtype,
            engine=engine,
            beam=beam,
            new_item_weight=new_item_weight,
            score=score,
            dense_weight=dense_weight,
            prefix_cache_bytes=prefix_cache_bytes,
        )
        app = create_app(recommender, max_k=max_k, max_history=max_history)
        address = address_of(listener)
        logger.info(
            "serving %d items on %s (description: %s/docs); stop with Ctrl+C",
            len(recommender.catalog),
            address,
            address,
        )
        if not _is_loopback(host):
            logger.warning("%s can be reached from other machines and asks for no log-in", address)
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", timeout_graceful_shutdown=30
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            logger.info("stopped")


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address.

    Raises:
        ConfigError: When the port is taken or forbidden, or the host is not this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(_reason(host, port, error)) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address of a bound socket as a person would type it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(host: str, port: int, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        return f"{host!r} is no address of this machine ({error}); use 127.0.0.1 or 0.0.0.0."
    if code == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program; stop that program, or name "
            "another port (0 takes a free one)."
        )
    if code == errno.EACCES:
        return f"port {port} needs more rights than this user has; use a port above 1023."
    return f"{host}:{port} cannot be listened on ({error}); name another host or port."


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
