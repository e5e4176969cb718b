"""A camera for tests/rtsp.rs: GStreamer's RTSP server with a moving test picture, on 127.0.0.1 only.

Prints "ready" when it takes connections; serves rtsp://127.0.0.1:PORT/cam until it is killed or its standard
input is closed, so that it does not outlive a test.
Exits with 77 where Python or GStreamer lack what it needs.
"""

import argparse
import sys

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer
except (ImportError, ValueError) as error:
    print(error, file=sys.stderr)
    sys.exit(77)

ELEMENTS = ["videotestsrc", "x264enc", "breakmydata", "rtph264pay"]


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--rate", type=int, default=24)
    parser.add_argument("--damage", type=float, default=0.0, help="chance of a byte to be broken")
    parser.add_argument("--login", help="USER:PASSWORD that visitors must give")
    return parser.parse_args()


def pipeline(of):
    """The first frames stay whole: what the decoder begins with is in them."""
    damage = f" ! breakmydata skip=20000 probability={of.damage}" if of.damage else ""
    return (
        "( videotestsrc is-live=true pattern=ball"
        f" ! video/x-raw,width={of.width},height={of.height},framerate={of.rate}/1"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12"
        f"{damage} ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )


def ask_for_login(server, factory, login):
    user, password = login.split(":", 1)
    auth = GstRtspServer.RTSPAuth()
    viewer = GstRtspServer.RTSPToken()
    viewer.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), viewer)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main():
    of = options()
    Gst.init(None)
    absent = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if absent:
        print("GStreamer lacks", ", ".join(absent), file=sys.stderr)
        sys.exit(77)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(of.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(of))
    factory.set_shared(True)
    if of.login:
        ask_for_login(server, factory, of.login)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        print(f"port {of.port} is not free", file=sys.stderr)
        sys.exit(1)
    print("ready", flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
    loop.run()


main()
