"""Draws a prompt through the shared library: txt2img.py PROMPT OUT.png [MODEL]

Only the standard library is needed. A struct may stop early, as Request does here: it begins with its size, and what
it lacks has its default.
"""
import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_void_p


class Request(ctypes.Structure):  # the beginning of calo_txt2img_request
    _fields_ = [("size", c_size_t), ("prompt", c_char_p), ("negative_prompt", c_char_p), ("width", c_int),
                ("height", c_int), ("steps", c_int), ("count", c_int), ("cfg_scale", c_double)]


calo = ctypes.CDLL("libcalotype.so.0")
calo.calo_message.restype = c_char_p
calo.calo_images_at.restype = c_void_p
calo.calo_message.argtypes = calo.calo_context_free.argtypes = calo.calo_model_free.argtypes = [c_void_p]
calo.calo_images_free.argtypes = [c_void_p]
calo.calo_images_at.argtypes = [c_void_p, c_size_t]
calo.calo_context_new.argtypes = [c_void_p, POINTER(c_void_p)]
calo.calo_model_open.argtypes = [c_void_p, c_char_p, POINTER(c_void_p)]
calo.calo_txt2img_request_init.argtypes = [POINTER(Request), c_size_t]
calo.calo_txt2img.argtypes = [c_void_p, POINTER(Request), POINTER(c_void_p)]
calo.calo_image_save.argtypes = [c_void_p, c_void_p, c_char_p, c_void_p]


def draw(prompt, out, folder=None):
    """Returns the status, which is 0 when the picture is there."""
    context, model, images, request = c_void_p(), c_void_p(), c_void_p(), Request()
    calo.calo_txt2img_request_init(byref(request), ctypes.sizeof(request))
    request.prompt, request.steps = prompt.encode(), 10
    status = (calo.calo_context_new(None, byref(context))
              or calo.calo_model_open(context, folder.encode() if folder else None, byref(model))
              or calo.calo_txt2img(model, byref(request), byref(images))
              or calo.calo_image_save(context, calo.calo_images_at(images, 0), out.encode(), None))
    if status:
        print(calo.calo_message(context).decode(), file=sys.stderr)
    calo.calo_images_free(images)
    calo.calo_model_free(model)
    calo.calo_context_free(context)
    return status


if len(sys.argv) < 3:
    sys.exit("usage: txt2img.py PROMPT OUT.png [MODEL]")
sys.exit(draw(*sys.argv[1:4]))
