#!/usr/bin/env python3
"""Reads the templates of deploy/, for the tests and for whoever changes them.

    templates.py lint                             cfn-lint over every CloudFormation template, in both regions
    templates.py resolve STACK [NAME=VALUE ...]   what the stack and its children make, as JSON: conditions decided,
                                                  references and substitutions filled in
    templates.py hcl FILE                         a Terraform file as JSON
    templates.py deploy ENDPOINT STACK [NAME=VALUE ...]
                                                  really deploys to an emulator; JSON of what it says it made

STACK is `source` or `destination`; parameters that are not given have their defaults.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# The checkout stays as clean as it was.
sys.dont_write_bytecode = True
import environment

TEMPLATES = environment.ROOT / "deploy" / "cloudformation"
REGIONS = {"source": "us-east-1", "destination": "eu-west-2"}
ACCOUNT = "111122223333"
# TemplateURL holds a path until `aws cloudformation package` has put the children into a bucket.
LEFT_TO_PACKAGE = "W3002"


class Wrong(Exception):
    """A template or an argument that cannot be used; the text is for a person."""


def load(path: Path) -> dict:
    """A template with the short forms of functions written out: `!Ref X` becomes {"Ref": "X"}."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, suffix, node):
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", function)
    # CloudFormation reads dates such as a policy's Version as text.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


# What Ref and GetAtt give, by resource type: the property that names the resource, and its ARN. Types that are not here
# get a made-up id.
NAMED = {
    "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{name}"),
    "AWS::SQS::Queue": ("QueueName", "arn:aws:sqs:{region}:{account}:{name}"),
    "AWS::SNS::Topic": ("TopicName", "arn:aws:sns:{region}:{account}:{name}"),
    "AWS::IAM::Role": ("RoleName", "arn:aws:iam::{account}:role/{name}"),
    "AWS::CloudWatch::Alarm": ("AlarmName", "arn:aws:cloudwatch:{region}:{account}:alarm:{name}"),
    "AWS::CloudWatch::CompositeAlarm": ("AlarmName", "arn:aws:cloudwatch:{region}:{account}:alarm:{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "arn:aws:logs:{region}:{account}:log-group:{name}:*"),
    "AWS::AutoScaling::AutoScalingGroup": ("AutoScalingGroupName", "{name}"),
    "AWS::KMS::Key": (None, "arn:aws:kms:{region}:{account}:key/{name}"),
    "AWS::IAM::InstanceProfile": (None, "arn:aws:iam::{account}:instance-profile/{name}"),
}
ARN_IS_REF = ("AWS::SNS::Topic",)


class Stack:
    """One template with its parameters decided; children are resolved within."""

    def __init__(self, path: Path, name: str, region: str, given: dict) -> None:
        self.path, self.name, self.region = path, name, region
        self.template = load(path)
        self.pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": name,
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{name}/0",
        }
        self.parameters = self.decide(given)
        self.children: dict[str, Stack] = {}
        self.under_way: list[str] = []

    def decide(self, given: dict) -> dict:
        declared = self.template.get("Parameters", {})
        for name in given:
            if name not in declared:
                raise Wrong(f"{self.path.name} has no parameter {name}")
        return {name: self.parameter(name, rule, given) for name, rule in declared.items()}

    def parameter(self, name: str, rule: dict, given: dict):
        if name not in given and "Default" not in rule:
            raise Wrong(f"{self.path.name} needs its parameter {name}")
        value = given.get(name, rule.get("Default"))
        text = str(value)
        if "AllowedValues" in rule and text not in map(str, rule["AllowedValues"]):
            raise Wrong(f"{name} of {self.path.name} cannot be {text!r}: {rule['AllowedValues']}")
        if "AllowedPattern" in rule and not re.fullmatch(rule["AllowedPattern"], text):
            raise Wrong(f"{name} of {self.path.name} cannot be {text!r}: {rule['AllowedPattern']}")
        if rule["Type"] == "Number":
            value = int(value)
            if value < rule.get("MinValue", value):
                raise Wrong(f"{name} of {self.path.name} cannot be {value}: less than {rule['MinValue']}")
            return value
        if rule["Type"] == "CommaDelimitedList":
            return text.split(",")
        return "ami-0123456789abcdef0" if rule["Type"].startswith("AWS::SSM::") else text

    def holds(self, condition) -> bool:
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        [(function, value)] = condition.items()
        match function:
            case "Condition":
                return self.holds(value)
            case "Fn::Equals":
                return str(self.value(value[0])) == str(self.value(value[1]))
            case "Fn::Not":
                return not self.holds(value[0])
            case "Fn::And":
                return all(map(self.holds, value))
            case "Fn::Or":
                return any(map(self.holds, value))
        raise Wrong(f"{self.path.name}: {function} is no condition")

    def value(self, node):
        """What a node of the template comes to; NOTHING where it is AWS::NoValue."""
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(key, argument)] = node.items()
            if key == "Ref":
                return self.ref(argument)
            if key.startswith("Fn::"):
                return self.function(key, argument)
        values = {key: self.value(child) for key, child in node.items()}
        return {key: value for key, value in values.items() if value is not NOTHING}

    def function(self, name: str, argument):
        match name:
            case "Fn::If":
                return self.value(argument[1] if self.holds(argument[0]) else argument[2])
            case "Fn::Sub":
                text, names = argument if isinstance(argument, list) else (argument, {})
                return self.substitute(text, {key: self.value(value) for key, value in names.items()})
            case "Fn::Join":
                return argument[0].join(map(str, self.value(argument[1])))
            case "Fn::Select":
                return self.value(argument[1])[int(self.value(argument[0]))]
            case "Fn::Split":
                return self.value(argument[1]).split(argument[0])
            case "Fn::Base64":
                return self.value(argument)
            case "Fn::GetAZs":
                return [f"{self.region}{letter}" for letter in "abc"]
            case "Fn::GetAtt":
                return self.attribute(*argument)
        raise Wrong(f"{self.path.name}: {name} is not known here")

    def substitute(self, text: str, names: dict) -> str:
        def fill(match: re.Match) -> str:
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in names:
                return str(names[name])
            return str(self.attribute(*name.split(".", 1)) if "." in name else self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", fill, text)

    def ref(self, name: str):
        if name == "AWS::NoValue":
            return NOTHING
        for known in (self.pseudo, self.parameters):
            if name in known:
                return known[name]
        kind = self.resource(name)["Type"]
        if kind in ARN_IS_REF:
            return self.arn(name)
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{self.region}.amazonaws.com/{ACCOUNT}/{self.physical(name)}"
        return self.physical(name)

    def resource(self, name: str) -> dict:
        resource = self.template["Resources"].get(name)
        if resource is None:
            raise Wrong(f"{self.path.name} refers to {name}, which it does not have")
        if "Condition" in resource and not self.holds(resource["Condition"]):
            raise Wrong(f"{self.path.name} refers to {name}, which is not made")
        return resource

    def physical(self, name: str) -> str:
        resource = self.resource(name)
        named = NAMED.get(resource["Type"], (None, None))[0]
        given = resource.get("Properties", {}).get(named) if named else None
        return f"{self.name}-{name}" if given is None else str(self.value(given))

    def arn(self, name: str) -> str:
        kind = self.resource(name)["Type"]
        if kind not in NAMED:
            raise Wrong(f"{self.path.name}: the ARN of a {kind} is not known here")
        return NAMED[kind][1].format(name=self.physical(name), region=self.region, account=ACCOUNT)

    def attribute(self, name: str, attribute: str):
        resource = self.resource(name)
        if resource["Type"] == "AWS::CloudFormation::Stack":
            output = attribute.removeprefix("Outputs.")
            child = self.child(name)
            return child.value(child.template["Outputs"][output]["Value"])
        if attribute == "Arn":
            return self.arn(name)
        if attribute == "AvailabilityZone":
            return self.value(resource["Properties"]["AvailabilityZone"])
        return f"{self.physical(name)}.{attribute}"

    def child(self, name: str) -> "Stack":
        if name in self.under_way:
            raise Wrong(f"{self.path.name}: {' and '.join(self.under_way)} wait for one another")
        if name not in self.children:
            self.under_way.append(name)
            properties = self.resource(name)["Properties"]
            path = self.path.parent / properties["TemplateURL"]
            given = self.value(properties.get("Parameters", {}))
            self.children[name] = Stack(path, f"{self.name}-{name}", self.region, given)
            self.under_way.pop()
        return self.children[name]

    def made(self, place: str = "") -> list[dict]:
        """Every resource that is made, children's too, each with where it stands."""
        found = []
        for name, resource in self.template["Resources"].items():
            if "Condition" in resource and not self.holds(resource["Condition"]):
                continue
            if resource["Type"] == "AWS::CloudFormation::Stack":
                found += self.child(name).made(f"{place}{name}/")
                continue
            entry = {"place": place + name, "region": self.region, "type": resource["Type"]}
            entry["properties"] = self.value(resource.get("Properties", {}))
            entry |= {key: resource[key] for key in ("DependsOn", "DeletionPolicy") if key in resource}
            found.append(entry)
        for name in self.template.get("Outputs", {}):
            self.value(self.template["Outputs"][name]["Value"])
        return found


NOTHING = object()


def assignments(words: list[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise Wrong(f"{word!r} is not NAME=VALUE")
    return dict(word.split("=", 1) for word in words)


def resolve(stack: str, given: dict[str, str]) -> list[dict]:
    if stack not in REGIONS:
        raise Wrong(f"{stack!r} is neither source nor destination")
    return Stack(TEMPLATES / f"{stack}.yaml", f"repl-{stack}", REGIONS[stack], given).made()


def lint() -> int:
    files = sorted(map(str, TEMPLATES.rglob("*.yaml")))
    cfn_lint = Path(sys.executable).parent / "cfn-lint"
    options = ["--ignore-checks", LEFT_TO_PACKAGE, "--regions", *REGIONS.values()]
    return subprocess.run([str(cfn_lint), *options, "--", *files], check=False).returncode


def hcl(path: str) -> dict:
    import hcl2

    def plain(node):
        """Literal texts come with their quotes, so that they differ from expressions; here both are text."""
        match node:
            case dict():
                return {plain(key): plain(value) for key, value in node.items()}
            case list():
                return [plain(value) for value in node]
            case str() if len(node) > 1 and node[0] == node[-1] == '"':
                return node[1:-1]
        return node

    with open(path, encoding="utf-8") as file:
        return plain(hcl2.load(file))


# What the emulator's CloudFormation does not know (it fails the whole stack) stands aside as something without effect.
UNKNOWN_TO_EMULATOR = (
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::EC2::Volume",
    "AWS::GuardDuty::Detector",
    "AWS::Macie::Session",
    "AWS::SecurityHub::Hub",
)


class Deployment:
    """A stack on an emulator, packaged as `aws cloudformation package` does it."""

    def __init__(self, endpoint: str, stack: str) -> None:
        import boto3

        region = REGIONS[stack]
        settings = {"endpoint_url": endpoint, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.cloudformation = boto3.client("cloudformation", region, **settings)
        self.ec2 = boto3.client("ec2", region, **settings)
        self.s3 = boto3.client("s3", "us-east-1", **settings)
        self.endpoint, self.stack = endpoint, stack
        self.bucket = "templates"
        self.left_out: list[str] = []
        self.s3.create_bucket(Bucket=self.bucket)
        # AWS publishes the newest image under a name of its own; here is one that there is not.
        self.image = "/images/al2023-arm64"
        ssm = boto3.client("ssm", region, **settings)
        ssm.put_parameter(Name=self.image, Value="ami-0123456789abcdef0", Type="String", Overwrite=True)

    def template(self, path: Path, place: str = "") -> str:
        template = load(path)
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::CloudFormation::Stack":
                child = resource["Properties"]["TemplateURL"]
                body = self.template(path.parent / child, f"{place}{name}/")
                self.s3.put_object(Bucket=self.bucket, Key=child, Body=body.encode())
                resource["Properties"]["TemplateURL"] = f"{self.endpoint}/{self.bucket}/{child}"
            elif resource["Type"] in UNKNOWN_TO_EMULATOR or "Metrics" in resource.get("Properties", {}):
                self.left_out.append(place + name)
                kept = {key: resource[key] for key in ("Condition",) if key in resource}
                template["Resources"][name] = {"Type": "AWS::CloudFormation::WaitConditionHandle"} | kept
        return json.dumps(template)

    def make(self, given: dict[str, str]) -> dict:
        name = f"repl-{self.stack}"
        body = self.template(TEMPLATES / f"{self.stack}.yaml")
        if "ImageId" in json.loads(body)["Parameters"]:
            given = given | {"ImageId": self.image}
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
        self.cloudformation.create_stack(
            StackName=name,
            TemplateBody=body,
            Parameters=parameters,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            DisableRollback=True,
        )
        stack = self.ended(name)
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        return {
            "status": stack["StackStatus"],
            "failures": list(self.failures()),
            "outputs": outputs,
            "left_out": self.left_out,
            "resources": list(self.resources(name)),
            "user_data": self.user_data(),
        }

    def user_data(self) -> str | None:
        """The script of the newest launch template, decoded; None where the stack makes no instance."""
        import base64

        for template in self.ec2.describe_launch_templates()["LaunchTemplates"]:
            which = {"LaunchTemplateId": template["LaunchTemplateId"], "Versions": ["$Latest"]}
            [version] = self.ec2.describe_launch_template_versions(**which)["LaunchTemplateVersions"]
            return base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
        return None

    def ended(self, name: str) -> dict:
        import time

        while True:
            [stack] = self.cloudformation.describe_stacks(StackName=name)["Stacks"]
            if not stack["StackStatus"].endswith("IN_PROGRESS"):
                return stack
            time.sleep(0.2)

    def failures(self):
        """What failed in which stack, and why, as the events tell."""
        for stack in self.cloudformation.describe_stacks()["Stacks"]:
            for event in self.cloudformation.describe_stack_events(StackName=stack["StackId"])["StackEvents"]:
                if event["ResourceStatus"].endswith("FAILED"):
                    reason = event.get("ResourceStatusReason", "no reason told")
                    yield f"{stack['StackName']} {event['LogicalResourceId']}: {reason}"

    def resources(self, name: str, place: str = ""):
        for resource in self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]:
            at = place + resource["LogicalResourceId"]
            if resource["ResourceType"] == "AWS::CloudFormation::Stack":
                yield from self.resources(resource["PhysicalResourceId"], f"{at}/")
            yield {
                "place": at,
                "type": resource["ResourceType"],
                "id": resource.get("PhysicalResourceId"),
                "status": resource["ResourceStatus"],
                "reason": resource.get("ResourceStatusReason"),
            }


def main(words: list[str]) -> int:
    match words:
        case ["lint"]:
            return lint()
        case ["resolve", stack, *given]:
            print(json.dumps(resolve(stack, assignments(given)), indent=1))
        case ["hcl", path]:
            print(json.dumps(hcl(path), indent=1))
        case ["deploy", endpoint, stack, *given]:
            print(json.dumps(Deployment(endpoint, stack).make(assignments(given)), indent=1))
        case _:
            print(__doc__.strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    environment.enter()
    try:
        sys.exit(main(sys.argv[1:]))
    except (environment.Missing, Wrong) as failure:
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
