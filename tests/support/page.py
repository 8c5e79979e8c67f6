"""The page's server on small images, and a client that talks to it over HTTP."""

import http.client
import json
import threading
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlencode

import torch

from sam_ft.app.routes import PageRoutes
from sam_ft.app.segmenter import Segmenter
from sam_ft.app.server import HOST, PageServer
from sam_ft.app.workspace import Workspace
from sam_ft.cli.image_files import find_images
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.task import PromptedSegmentation
from sam_ft.types import OBJECT
from tests.support.tiny import tiny_sam

FORMATS = ("labels", "coco", "table")


def confident_sam():
    """Of pred_iou and stability high enough for the grid of points to find objects."""
    model = tiny_sam()
    with torch.no_grad():
        for head in model.mask_decoder.output_hypernetworks_mlps:
            for parameter in head.layers[-1].parameters():
                parameter *= 10_000
        for parameter in model.mask_decoder.iou_prediction_head.layers[-1].parameters():
            parameter *= 10
        model.mask_decoder.iou_prediction_head.layers[-1].bias += 2
    return model


def make_segmenter(model, tile=None):
    return Segmenter(PromptedSegmentation(model), SegmentOptions(tile=tile))


def make_workspace(output, images=None, reading=None, tuned=None, tile=None):
    """Of two tiny models; the images of a folder are listed. tuned: the first model, with a head or not"""
    tuned = tuned or tiny_sam()
    segmenters = {"tuned": make_segmenter(tuned, tile), "zero-shot": make_segmenter(tiny_sam(1), tile)}
    classes = OBJECT if tuned.head is None else tuned.head.classes
    listed = find_images(str(images))[1] if images else []
    return Workspace(segmenters, listed, output / "images", reading or {}, classes)


class Reply(NamedTuple):
    status: int
    kind: str
    content: bytes
    headers: dict

    @property
    def json(self):
        return json.loads(self.content)


class Client:
    """Requests to a server; `get` and `post` are those of a page that knows the token."""

    def __init__(self, server):
        self.server = server

    def get(self, name, /, **query):
        return self.request("GET", f"/{self.server.token}/{name}?{urlencode(query)}")

    def post(self, name, body, /, **query):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", f"/{self.server.token}/{name}?{urlencode(query)}", content)

    def request(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(HOST, self.server.server_port, timeout=600)  # of a machine that is busy
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        found = Reply(reply.status, reply.headers["Content-Type"], reply.read(), dict(reply.headers))
        connection.close()
        return found


@contextmanager
def serve(server):
    """A client of a server that runs in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Client(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve_page(output, workspace):
    return serve(PageServer(PageRoutes(workspace, output, FORMATS, points_per_side=4).routes()))
