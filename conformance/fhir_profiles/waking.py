"""The profiles of the Subscription by which a FHIR server wakes us: it tells that something came, and nothing of it."""

from __future__ import annotations

from fhir_profiles.definition import TERMINOLOGY, at, profile, rule

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"

SUBSCRIPTION = profile(
    "SightlineSubscription",
    "Subscription",
    "A rest-hook by criteria, or by topic as the Subscriptions R5 Backport has it. What it tells is never believed.",
    at("contained", max="0"),
    at("extension", max="0"),
    at("status", fixedCode="requested"),
    at("end", "It ends by itself when nobody renews it.", min=1),
    at("channel.type", fixedCode="rest-hook"),
    at("channel.endpoint", min=1),
    at("channel.header", "The secret by which we know the server.", min=1, max="1"),
    title="The wish to be woken",
    rules=(
        rule(
            "sl-80",
            "Nothing of a report is sent: no payload, or an empty one",
            "channel.payload.empty() or channel.payload.extension"
            f".where(url = '{BACKPORT}backport-payload-content' and value = 'empty').exists()",
        ),
        rule("sl-82", "It calls an address of the web", "channel.endpoint.matches('^https?://')"),
        rule(
            "sl-81",
            "It asks for reports, or names a topic",
            # first(): fhirpathpy counts what stands beside a primitive as one more
            "criteria.first().startsWith('DiagnosticReport?') or criteria.first().matches('^(https?|urn):')",
        ),
    ),
)

SUBSCRIPTION_R5 = profile(
    "SightlineSubscriptionR5",
    "Subscription",
    "A rest-hook by topic for a server of R5. What it tells is never believed.",
    at("contained", max="0"),
    at("extension", max="0"),
    at("status", fixedCode="requested"),
    at("end", "It ends by itself when nobody renews it.", min=1),
    at(
        "channelType",
        patternCoding={"system": TERMINOLOGY + "subscription-channel-type", "code": "rest-hook"},
    ),
    at("endpoint", min=1),
    at("parameter", "The secret by which we know the server.", min=1, max="1"),
    at("content", "Nothing of a report is sent.", min=1, fixedCode="empty"),
    title="The wish to be woken (R5)",
    r5=True,
)

PROFILES = (SUBSCRIPTION, SUBSCRIPTION_R5)
