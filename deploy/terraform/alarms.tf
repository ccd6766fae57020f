# The alarms on the worker's own metrics, one line each: metric, side (null for the whole worker), statistic, how many
# periods (null: as many as the threshold says), what a period without data means.
locals {
  alarms = {
    ReplicationFailure         = { metric = "OperationsFailedReplication", side = null, statistic = "Maximum", periods = 2, missing = "ignore" }
    ReplicationLatencyWarning  = { metric = "ReplicationLatency", side = null, statistic = "Maximum", periods = 1, missing = "notBreaching" }
    ReplicationLatencyCritical = { metric = "ReplicationLatency", side = null, statistic = "Maximum", periods = 1, missing = "notBreaching" }
    LatencyExceedsSla          = { metric = "ReplicationLatency", side = null, statistic = "Maximum", periods = 1, missing = "notBreaching" }
    PendingOperations          = { metric = "OperationsPendingReplication", side = null, statistic = "Maximum", periods = 3, missing = "ignore" }
    BytesPending               = { metric = "BytesPendingReplication", side = null, statistic = "Maximum", periods = 3, missing = "ignore" }
    TargetErrors4xx            = { metric = "S3Errors4xx", side = "target", statistic = "Sum", periods = 1, missing = "notBreaching" }
    SourceErrors4xx            = { metric = "S3Errors4xx", side = "source", statistic = "Sum", periods = 1, missing = "notBreaching" }
    SourceErrors5xx            = { metric = "S3Errors5xx", side = "source", statistic = "Sum", periods = 1, missing = "notBreaching" }
    KmsTargetFailures          = { metric = "KmsFailures", side = "target", statistic = "Sum", periods = 1, missing = "notBreaching" }
    KmsSourceThrottles         = { metric = "KmsThrottles", side = "source", statistic = "Sum", periods = 1, missing = "notBreaching" }
    WorkerSilent               = { metric = "Heartbeat", side = null, statistic = "Sum", periods = null, missing = "breaching" }
  }

  composites = {
    SystemHealth         = { tier = "critical", join = " OR ", children = ["ReplicationFailure", "ReplicationLatencyCritical", "WorkerSilent"] }
    InfrastructureHealth = { tier = "standard", join = " OR ", children = ["TargetErrors4xx", "SourceErrors4xx", "SourceErrors5xx", "KmsTargetFailures", "KmsSourceThrottles"] }
  }

  # For whoever is woken: what is the matter, and what to do.
  descriptions = {
    ReplicationFailure         = "Changes of %s failed and are parked: see why with `repl failures`, mend the cause, and they are released by themselves or with `repl failures retry`."
    ReplicationLatencyWarning  = "Changes of %s take long to reach the target: look at `repl status` for what waits and at the limits in [transfer]."
    ReplicationLatencyCritical = "Changes of %s take very long to reach the target, or the queue has not been seen through as long: see `repl status` for what waits and which fault the queue or the target shows, and mend that."
    LatencyExceedsSla          = "Changes of %s reach the target later than was promised: tell those who rely on it, and look at `repl status` for what waits."
    PendingOperations          = "Many changes of %s wait for the target: nothing to do if the number falls; else see `repl status` for faults, and raise the limits in [transfer] or the size of the machine."
    BytesPending               = "Many bytes of %s wait for the target: nothing to do if they become fewer; else see `repl status` for faults, and raise the limits in [transfer] or the size of the machine."
    TargetErrors4xx            = "The target of %s refuses requests: run `repl check`, which names the missing permission or setting."
    SourceErrors4xx            = "The source bucket %s refuses requests: run `repl check`, which names the missing permission or setting."
    SourceErrors5xx            = "S3 fails to answer for %s: the worker tries again by itself; if it lasts, look at AWS's health dashboard for the source's region."
    KmsTargetFailures          = "The KMS key of the target of %s cannot be used: see that it is enabled and that its policy permits the worker's role, then `repl check`."
    KmsSourceThrottles         = "KMS throttles reads of %s: switch on S3 Bucket Keys there, or ask for a higher quota of KMS requests."
    SourceObjectCount          = "The source bucket %s holds no object any more: find out who emptied it before lifecycle rules empty the target too."
    SourceSizeGrowth           = "The source bucket %s grew fast in a day: see who writes there, and whether limits and costs of the replication still fit."
    WorkerSilent               = "The worker that replicates %s gives no sign of life: nothing is replicated; see whether its machine runs, then its log (`journalctl -u repl`), and start it again: nothing is lost."
    SystemHealth               = "The replication of %s fails, stands still or is very late: the target falls behind until somebody mends it; begin with the alarm that is named in the reason, then `repl status`."
    InfrastructureHealth       = "S3 or KMS refuse or fail what the replication of %s asks of them: run `repl check`."
    Escalation                 = "The replication of %s is broken and what it stands on is in trouble too: the second copy is not being kept; see to it that those on call have what they need, and decide whether users must be told."
  }

  # Bytes that lifecycle moves from one of these to another are no growth.
  storage_types = [
    "StandardStorage",
    "StandardIAStorage",
    "OneZoneIAStorage",
    "GlacierStorage",
    "DeepArchiveStorage",
    "IntelligentTieringFAStorage",
    "IntelligentTieringIAStorage",
    "IntelligentTieringAAStorage",
  ]
}

resource "aws_sns_topic" "tier" {
  for_each = toset(["standard", "critical", "management"])
  name     = "${var.prefix}-${each.key}"
}

resource "aws_sns_topic_policy" "tier" {
  for_each = aws_sns_topic.tier
  arn      = each.value.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "${var.prefix}-cloudwatch"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = each.value.arn
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:cloudwatch:${var.target_region}:${local.account}:alarm:*" }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

resource "aws_sns_topic_subscription" "tier" {
  for_each = merge([
    for tier, emails in var.emails : { for email in emails : "${tier} ${email}" => { tier = tier, email = email } }
  ]...)
  topic_arn = aws_sns_topic.tier[each.value.tier].arn
  protocol  = "email"
  endpoint  = each.value.email
}

# An alarm reaches only topics of its own region.
resource "aws_sns_topic" "source" {
  provider = aws.source
  name     = "${var.prefix}-standard"
}

resource "aws_sns_topic_subscription" "source" {
  provider  = aws.source
  for_each  = toset(lookup(var.emails, "standard", []))
  topic_arn = aws_sns_topic.source.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "own" {
  for_each            = local.alarms
  alarm_name          = "${var.prefix}-${each.key}"
  alarm_description   = format(local.descriptions[each.key], var.source_bucket)
  namespace           = var.namespace
  metric_name         = each.value.metric
  dimensions          = merge({ SourceBucket = var.source_bucket }, each.value.side == null ? {} : { Side = each.value.side })
  statistic           = each.value.statistic
  period              = var.period
  evaluation_periods  = coalesce(each.value.periods, var.thresholds[each.key])
  datapoints_to_alarm = coalesce(each.value.periods, var.thresholds[each.key])
  comparison_operator = each.key == "WorkerSilent" ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.key == "WorkerSilent" ? 1 : var.thresholds[each.key]
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.tier["standard"].arn]
  ok_actions          = [aws_sns_topic.tier["standard"].arn]
}

resource "aws_cloudwatch_composite_alarm" "health" {
  for_each          = local.composites
  alarm_name        = "${var.prefix}-${each.key}"
  alarm_description = format(local.descriptions[each.key], var.source_bucket)
  alarm_rule        = join(each.value.join, [for child in each.value.children : "ALARM(\"${aws_cloudwatch_metric_alarm.own[child].alarm_name}\")"])
  alarm_actions     = [aws_sns_topic.tier[each.value.tier].arn]
  ok_actions        = [aws_sns_topic.tier[each.value.tier].arn]
}

resource "aws_cloudwatch_composite_alarm" "escalation" {
  alarm_name        = "${var.prefix}-Escalation"
  alarm_description = format(local.descriptions["Escalation"], var.source_bucket)
  alarm_rule = join(" AND ", [
    for child in ["SystemHealth", "InfrastructureHealth"] : "ALARM(\"${aws_cloudwatch_composite_alarm.health[child].alarm_name}\")"
  ])
  alarm_actions = [aws_sns_topic.tier["management"].arn]
  ok_actions    = [aws_sns_topic.tier["management"].arn]
}

# S3's own figures come once a day, in the bucket's region.
resource "aws_cloudwatch_metric_alarm" "object_count" {
  provider            = aws.source
  alarm_name          = "${var.prefix}-SourceObjectCount"
  alarm_description   = format(local.descriptions["SourceObjectCount"], var.source_bucket)
  namespace           = "AWS/S3"
  metric_name         = "NumberOfObjects"
  dimensions          = { BucketName = var.source_bucket, StorageType = "AllStorageTypes" }
  statistic           = "Average"
  period              = 86400
  evaluation_periods  = 1
  datapoints_to_alarm = 1
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = var.thresholds["SourceObjectCount"]
  treat_missing_data  = "missing"
  alarm_actions       = [aws_sns_topic.source.arn]
  ok_actions          = [aws_sns_topic.source.arn]
}

resource "aws_cloudwatch_metric_alarm" "size_growth" {
  provider            = aws.source
  alarm_name          = "${var.prefix}-SourceSizeGrowth"
  alarm_description   = format(local.descriptions["SourceSizeGrowth"], var.source_bucket)
  evaluation_periods  = 1
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.thresholds["SourceSizeGrowth"]
  treat_missing_data  = "missing"
  alarm_actions       = [aws_sns_topic.source.arn]
  ok_actions          = [aws_sns_topic.source.arn]

  dynamic "metric_query" {
    for_each = local.storage_types
    content {
      id          = "m${metric_query.key + 1}"
      return_data = false
      metric {
        namespace   = "AWS/S3"
        metric_name = "BucketSizeBytes"
        dimensions  = { BucketName = var.source_bucket, StorageType = metric_query.value }
        stat        = "Average"
        period      = 86400
      }
    }
  }
  metric_query {
    id          = "growth"
    expression  = "DIFF(SUM([${join(",", [for nth in range(length(local.storage_types)) : "m${nth + 1}"])}]))"
    label       = "bytes more than the day before"
    return_data = true
  }
}

# Changes of the alarms arrive on the default bus of the source's region too.
resource "aws_iam_role" "forwarding" {
  name = "${var.prefix}-alarm-forwarding"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnEquals    = { "aws:SourceArn" = aws_cloudwatch_event_rule.forwarding.arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "forwarding" {
  name = "forward"
  role = aws_iam_role.forwarding.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "events:PutEvents", Resource = local.source_bus }]
  })
}

resource "aws_cloudwatch_event_rule" "forwarding" {
  name        = "${var.prefix}-alarm-forwarding"
  description = "Alarms of ${var.prefix} to ${var.source_region}"
  event_pattern = jsonencode({
    source        = ["aws.cloudwatch"]
    "detail-type" = ["CloudWatch Alarm State Change"]
    resources     = [{ prefix = "arn:${local.partition}:cloudwatch:${var.target_region}:${local.account}:alarm:${var.prefix}-" }]
    detail        = { state = { value = ["ALARM", "OK"] } }
  })
}

resource "aws_cloudwatch_event_target" "forwarding" {
  rule      = aws_cloudwatch_event_rule.forwarding.name
  target_id = "source-region"
  arn       = local.source_bus
  role_arn  = aws_iam_role.forwarding.arn
}

locals {
  source_bus = "arn:${local.partition}:events:${var.source_region}:${local.account}:event-bus/default"
}
