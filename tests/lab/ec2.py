"""A pretended EC2: moto's server, and what lives there as a file, so that a lab can give its instances hosts.

    python ec2.py ADDRESS PORT FOLDER

FOLDER/instances.json is {id: {"ip": …, "type": …, "is_spot": …}} of those that are up; a file FOLDER/reclaim-ID
ends one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # Ray attaches some to its role

import boto3
from moto.server import ThreadedMotoServer

REGION = "us-west-2"


def main() -> None:
    """Serve until killed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    ThreadedMotoServer(ip_address=host, port=port, verbose=False).start()
    address = f"http://{host}:{port}"
    os.environ.update(AWS_ACCESS_KEY_ID="lab", AWS_SECRET_ACCESS_KEY="lab", AWS_DEFAULT_REGION=REGION)
    ec2 = boto3.client("ec2", endpoint_url=address)
    ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=(folder / "key.pub").read_bytes())
    while True:
        for asked in folder.glob("reclaim-*"):
            ec2.terminate_instances(InstanceIds=[asked.name.removeprefix("reclaim-")])
            asked.unlink()
        aside = folder / ".instances"
        aside.write_text(json.dumps(instances(ec2)))
        aside.rename(folder / "instances.json")
        time.sleep(1)


def instances(ec2: Any) -> dict[str, dict[str, Any]]:
    """Those that are up, or about to be."""
    rows = [row for one in ec2.describe_instances()["Reservations"] for row in one["Instances"]]
    return {
        row["InstanceId"]: {
            "ip": row["PrivateIpAddress"],
            "type": row["InstanceType"],
            "is_spot": row.get("InstanceLifecycle") == "spot",
        }
        for row in rows
        if row["State"]["Name"] in ("pending", "running")
    }


if __name__ == "__main__":
    main()
