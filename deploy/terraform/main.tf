# Replicates one existing bucket to another one, in another region of the same account.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

provider "aws" {
  alias  = "source"
  region = var.source_region
}

# The worker, its metrics and alarms outlive the source's region.
provider "aws" {
  region = var.target_region
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  worker    = "${var.prefix}-worker"

  # The placeholders of deploy/iam.
  placeholders = {
    PARTITION      = local.partition
    PREFIX         = var.prefix
    NAMESPACE      = var.namespace
    SOURCE_BUCKET  = var.source_bucket
    SOURCE_REGION  = var.source_region
    SOURCE_ACCOUNT = local.account
    SOURCE_KEY_ARN = var.source_key_arn
    TARGET_BUCKET  = var.target_bucket
    TARGET_REGION  = var.target_region
    TARGET_ACCOUNT = local.account
    TARGET_KEY_ARN = var.target_key_arn
  }

  config = templatefile("${path.module}/repl.toml.tftpl", {
    source_bucket       = var.source_bucket
    source_region       = var.source_region
    target_bucket       = var.target_bucket
    target_region       = var.target_region
    target_key_arn      = var.target_key_arn
    account             = local.account
    queue_url           = aws_sqs_queue.events.url
    rule_id             = var.rule_id
    delete_markers      = var.delete_markers
    namespace           = var.namespace
    prefix              = var.prefix
    forwarding_role_arn = aws_iam_role.forwarding.arn
    topics              = { for tier, topic in aws_sns_topic.tier : tier => topic.arn }
    period              = var.period
    thresholds          = var.thresholds
  })
}
