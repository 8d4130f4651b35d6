"""The service: trained runs behind HTTP, and the page that talks to it.

`create_app` puts it together. Every adaptation works on a copy of the learner of its own, on a thread with one
computing thread, so that what a user gets depends on nobody else. The parts, in the order in which a request meets
them:

* `guard`: token, hosts, headers; `bodies`: media types and sizes; `schemas`: what a body has to look like;
* `samples` and `archive`: untrusted bytes become tensors; `store`: tasks, for half an hour;
* `served`: a run, maybe `behind` a backbone; `offered`: its methods; `adaptation`: one inner loop, step by step;
* `jobs`: threads, limits, cancelling;
* `routes`: the addresses; `exports`: what can be taken away; `metrics`: what an operator sees.
"""
