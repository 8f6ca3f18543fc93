"""The scripted model server: the providers' wire protocols, answers from scripts, and a bill of its own.

It keeps no conversation: the turn of a script is the number of assistant messages in the request. What a
script does not foresee is an error that names script and turn, never an empty answer.
"""

from remit.testing.model_server.bill import DEFAULT_RATES, Bill, BillRate, Entry
from remit.testing.model_server.chaos import Chaos
from remit.testing.model_server.limits import Limits
from remit.testing.model_server.scripts import Script, load_script, load_scripts
from remit.testing.model_server.server import ModelServer, RunningServer, ServerOptions, run, serve

__all__ = [
    "DEFAULT_RATES",
    "Bill",
    "BillRate",
    "Chaos",
    "Entry",
    "Limits",
    "ModelServer",
    "RunningServer",
    "Script",
    "ServerOptions",
    "load_script",
    "load_scripts",
    "run",
    "serve",
]
