"""What is tried against Kang's bootstrapping, sans-IO: in goes what was heard, out comes what is sent, or a key.

    an installer who has IK            `installer.Installer`
    whoever has no key at all          `outsider.Splicer`, `outsider.tampered`, `outsider.bogus_flight_2`

docs/protocols/bootstrap.md tells what each yields, from runs.
"""
