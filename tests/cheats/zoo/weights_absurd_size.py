"""Announces weights of ten to the four hundredth bytes, and as many parameters.

expect: crash exception
detail: absurd size
"""

from base import play

from autoresearch.trial import channel

original = channel.Channel.send


def send(self, type_, **fields):
    if type_ == "start":
        fields["num_params"] = 10**4000
    original(self, type_, **fields)


channel.Channel.send = send


def hand_in(trial, model, optimizer):
    trial._channel.send("submit", size=10**400, num_params=10**400)
    trial._channel.expect("received", timeout=30)


build_model = play(__name__, after=hand_in)
