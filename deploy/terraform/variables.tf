variable "prefix" {
  description = "Begins the name of everything."
  type        = string
  default     = "repl"
}

variable "source_bucket" {
  description = "The bucket that is replicated, with versioning on."
  type        = string
}

variable "source_region" {
  type    = string
  default = "us-east-1"
}

variable "source_key_arn" {
  description = "The key of the source bucket, whose policy lets the account's roles use it by way of S3."
  type        = string
}

variable "target_bucket" {
  description = "The bucket that is kept equal, with versioning on."
  type        = string
}

variable "target_region" {
  type    = string
  default = "eu-west-2"
}

variable "target_key_arn" {
  description = "The key of the replicas, as above."
  type        = string
}

variable "rule_id" {
  type    = string
  default = "everything"
}

variable "delete_markers" {
  type    = bool
  default = false
}

variable "manage_notification" {
  description = "Replaces the whole notification configuration of the source bucket; false where it has another already."
  type        = bool
  default     = true
}

variable "manage_lifecycle" {
  description = "Replaces the whole lifecycle configuration of both buckets; false where they have rules already."
  type        = bool
  default     = true
}

variable "emails" {
  description = "Who hears in each tier; each has to confirm."
  type        = map(list(string))
  default     = { standard = [], critical = [], management = [] }
}

variable "namespace" {
  type    = string
  default = "Repl"
}

variable "period" {
  description = "Length of one evaluation period, seconds."
  type        = number
  default     = 60
}

variable "thresholds" {
  description = "When each alarm fires: counts, seconds, bytes; WorkerSilent: periods."
  type        = map(number)
  default = {
    ReplicationFailure         = 0
    ReplicationLatencyWarning  = 1800
    ReplicationLatencyCritical = 3600
    LatencyExceedsSla          = 900
    PendingOperations          = 100
    BytesPending               = 1073741824
    TargetErrors4xx            = 10
    SourceErrors4xx            = 10
    SourceErrors5xx            = 5
    KmsTargetFailures          = 5
    KmsSourceThrottles         = 0
    SourceObjectCount          = 0
    SourceSizeGrowth           = 1099511627776
    WorkerSilent               = 3
  }
}

variable "subnet_id" {
  description = "A subnet of the target's region with a way to the internet and no S3 endpoint."
  type        = string
}

variable "public_ip" {
  description = "Whether the instance needs an address of its own to reach the internet."
  type        = bool
  default     = true
}

variable "binary_bucket" {
  description = "Holds the binary for arm64 Linux."
  type        = string
}

variable "binary_key" {
  type = string
}

variable "binary_sha256" {
  type = string
}
